// Package schema holds what overlayd prints with --json against the schemas in docs/schema. It is for tests: those of
// the command line and the end-to-end tests give it every output they see.
//
// The published schemas let everybody ignore what they do not know. Here they are strict: a property that its schema
// does not describe is an error, so that the documentation cannot fall behind.
package schema
