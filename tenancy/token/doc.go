// Package token owns signed tokens (JWTs) that an issuer of the operator's choice gives out: it checks one and says whom it stands
// for.
//
// It promises that the algorithm is settled by the key and never by the token alone, that issuer, audience and an end are
// demanded, and that what a claim leaves out never widens what a token reaches. Keys come from a file or a URL, and
// are looked at again now and then, and when a token names one that is not known, at most every few seconds; while the source is
// down, the keys that were there stay. tenancy.Authenticator calls it, cmd/croft makes it. It never asks the network on behalf of a token whose
// keys it has, and never follows what a token says about where keys are.
package token
