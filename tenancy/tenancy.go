// Package tenancy owns who may do what, how much and how soon: API keys, the principals that they stand for, and their roles;
// tiers and limits; the gate that lets requests in.
//
// It promises that a secret is never stored, logged or compared in a time that depends on its content. internal/api
// authenticates each request through an Authenticator; the metadata plane of cluster stores Keys; cmd/croft makes
// them, and the gate, which cluster asks before each request. It does no I/O; times are arguments, or come from a clock that is given.
package tenancy
