package config

import (
	"maps"
	"slices"
)

// FunctionNames are the functions that expressions can call.
func FunctionNames() []string {
	return slices.Sorted(maps.Keys(functions()))
}

// EscapeKey is what a key becomes in the name of a directory.
var EscapeKey = escapeKey
