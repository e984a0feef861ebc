// Package api owns the HTTP face of croft: Pinecone's classic data and control planes, croft's own /v1, health and
// metrics, and the listeners that they are served on.
//
// It promises one error body for every failure, input checked to the last byte before a floor below sees it, no answer
// with a number that is not finite, and no tenant's name in a metric. All routes stand in one table (routes.go);
// handlers return a value or an error and one wrapper writes. cmd/croft builds a Handler and a Server from it. It
// never stores anything, and never decides where a record lives: that is cluster's.
package api
