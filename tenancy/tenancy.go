// Package tenancy owns who may do what: API keys, the principals that they stand for, and their roles. Limits,
// admission and metering join it later.
package tenancy
