package config

import (
	"maps"
	"slices"

	"github.com/zclconf/go-cty/cty/function"
)

// BlockType is a kind of block as the parser knows it.
type BlockType struct {
	// Path is its name after those of the blocks around it, as in
	// overlay.options. It is "" for the spec itself, which holds blocks only.
	Path string
	// Labelled blocks have a name: lowerdir "NAME" { ... }.
	Labelled bool
	// Open blocks take any attribute.
	Open bool
	// Attributes are those it may hold and Required those it must.
	Attributes, Required []string
	// Refused are names that exist elsewhere and get an answer of their own here.
	Refused []string
}

// Language lists every kind of block. It is what specs are read by, told to
// those who describe the language.
func Language() []BlockType {
	return blockTypes("", specSchema())
}

func blockTypes(path string, s *schema) []BlockType {
	out := []BlockType{{
		Path: path, Labelled: s.labelled, Open: s.open,
		Attributes: s.attrs, Required: s.required, Refused: slices.Sorted(maps.Keys(s.refused)),
	}}
	if path != "" {
		path += "."
	}
	for _, name := range slices.Sorted(maps.Keys(s.blocks)) {
		out = append(out, blockTypes(path+name, s.blocks[name])...)
	}
	return out
}

// Functions are those that expressions can call, by name.
func Functions() map[string]function.Function {
	return functions()
}
