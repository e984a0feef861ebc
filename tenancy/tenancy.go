// Package tenancy owns who may do what: API keys, the principals that they stand for, and their roles. Limits,
// admission and metering join it later.
//
// It promises that a secret is never stored, logged or compared in a time that depends on its content. internal/api
// authenticates each request through an Authenticator; the metadata plane of cluster stores Keys; cmd/croft makes
// them. It does no I/O and reads no clock: times are arguments.
package tenancy
