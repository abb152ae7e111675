package config

// EscapeKey is what a key becomes in the name of a directory.
var EscapeKey = escapeKey
