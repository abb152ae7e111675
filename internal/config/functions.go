package config

import (
	"maps"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// functions returns what expressions can call: Terraform's functions as far as
// their result depends on their arguments alone. None reads a file, the
// network, the clock or the environment.
func functions() map[string]function.Function {
	fs := map[string]function.Function{
		"abs":             stdlib.AbsoluteFunc,
		"can":             tryfunc.CanFunc,
		"ceil":            stdlib.CeilFunc,
		"chomp":           stdlib.ChompFunc,
		"chunklist":       stdlib.ChunklistFunc,
		"coalescelist":    stdlib.CoalesceListFunc,
		"compact":         stdlib.CompactFunc,
		"concat":          stdlib.ConcatFunc,
		"contains":        stdlib.ContainsFunc,
		"csvdecode":       stdlib.CSVDecodeFunc,
		"element":         stdlib.ElementFunc,
		"flatten":         stdlib.FlattenFunc,
		"floor":           stdlib.FloorFunc,
		"format":          bounded(stdlib.FormatFunc, checkFormat),
		"formatdate":      stdlib.FormatDateFunc,
		"formatlist":      bounded(stdlib.FormatListFunc, checkFormat),
		"indent":          bounded(stdlib.IndentFunc, checkIndent),
		"join":            stdlib.JoinFunc,
		"jsondecode":      stdlib.JSONDecodeFunc,
		"jsonencode":      stdlib.JSONEncodeFunc,
		"keys":            stdlib.KeysFunc,
		"log":             stdlib.LogFunc,
		"lower":           stdlib.LowerFunc,
		"max":             stdlib.MaxFunc,
		"merge":           stdlib.MergeFunc,
		"min":             stdlib.MinFunc,
		"parseint":        stdlib.ParseIntFunc,
		"pow":             stdlib.PowFunc,
		"regex":           stdlib.RegexFunc,
		"regexall":        stdlib.RegexAllFunc,
		"reverse":         stdlib.ReverseListFunc,
		"setintersection": stdlib.SetIntersectionFunc,
		"setproduct":      bounded(stdlib.SetProductFunc, checkProduct),
		"setsubtract":     stdlib.SetSubtractFunc,
		"setunion":        stdlib.SetUnionFunc,
		"signum":          stdlib.SignumFunc,
		"slice":           stdlib.SliceFunc,
		"sort":            stdlib.SortFunc,
		"split":           stdlib.SplitFunc,
		"strrev":          stdlib.ReverseFunc,
		"substr":          stdlib.SubstrFunc,
		"timeadd":         stdlib.TimeAddFunc,
		"title":           stdlib.TitleFunc,
		"tobool":          stdlib.MakeToFunc(cty.Bool),
		"tolist":          alike(stdlib.MakeToFunc(cty.List(cty.DynamicPseudoType))),
		"tomap":           alike(stdlib.MakeToFunc(cty.Map(cty.DynamicPseudoType))),
		"tonumber":        stdlib.MakeToFunc(cty.Number),
		"toset":           alike(stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType))),
		"tostring":        stdlib.MakeToFunc(cty.String),
		"trim":            stdlib.TrimFunc,
		"trimprefix":      stdlib.TrimPrefixFunc,
		"trimspace":       stdlib.TrimSpaceFunc,
		"trimsuffix":      stdlib.TrimSuffixFunc,
		"try":             tryfunc.TryFunc,
		"upper":           stdlib.UpperFunc,
		"values":          stdlib.ValuesFunc,
		"zipmap":          stdlib.ZipmapFunc,
	}
	maps.Copy(fs, collectionFunctions())
	maps.Copy(fs, encodingFunctions())
	maps.Copy(fs, map[string]function.Function{
		"basename":    textFunc(path.Base),
		"dirname":     textFunc(path.Dir),
		"replace":     replaceFunc(),
		"endswith":    textTest(strings.HasSuffix),
		"startswith":  textTest(strings.HasPrefix),
		"strcontains": textTest(strings.Contains),
	})
	return fs
}

// Bounds of what one call makes.
const (
	maxElements = maxInstances
	maxPadding  = 10_000
)

// bounded refuses arguments for which a function would fill the memory.
func bounded(f function.Function, check func(args []cty.Value) error) function.Function {
	return function.New(&function.Spec{
		Params:   f.Params(),
		VarParam: f.VarParam(),
		Type: func(args []cty.Value) (cty.Type, error) {
			if err := check(args); err != nil {
				return cty.NilType, err
			}
			return f.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return f.Call(args)
		},
	})
}

var wideFormat = regexp.MustCompile(`%[^%a-zA-Z]*[0-9]{5}`)

func checkFormat(args []cty.Value) error {
	if len(args) == 0 || args[0].Type() != cty.String || !args[0].IsKnown() || args[0].IsNull() {
		return nil
	}
	if wideFormat.MatchString(args[0].AsString()) {
		return function.NewArgErrorf(0, "a width or precision of more than four digits")
	}
	return nil
}

func checkIndent(args []cty.Value) error {
	if len(args) == 0 || args[0].Type() != cty.Number || !args[0].IsKnown() || args[0].IsNull() {
		return nil
	}
	if _, ok := wholeNumber(args[0], maxPadding); !ok {
		return function.NewArgErrorf(0, "the number of blanks must be a whole number up to %d", maxPadding)
	}
	return nil
}

func checkProduct(args []cty.Value) error {
	n := 1
	for _, a := range args {
		t := a.Type()
		if !a.IsKnown() || a.IsNull() || !t.IsCollectionType() && !t.IsTupleType() {
			return nil
		}
		length := 0
		if t.IsTupleType() {
			length = t.Length()
		} else if length = a.LengthInt(); length < 0 {
			return nil
		}
		if n *= length; n > maxElements {
			return function.NewArgErrorf(0, "the product has more than %d elements", maxElements)
		}
	}
	return nil
}

// textFunc makes a function of one string.
func textFunc(f func(string) string) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.StringVal(f(args[0].AsString())), nil
		},
	})
}

// textTest makes a function that compares two strings.
func textTest(f func(s, part string) bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}, {Name: "part", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(f(args[0].AsString(), args[1].AsString())), nil
		},
	})
}

// replaceFunc replaces a text, or, when it stands between slashes, what a
// regular expression matches.
func replaceFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{
			{Name: "text", Type: cty.String}, {Name: "old", Type: cty.String}, {Name: "new", Type: cty.String},
		},
		Type: function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			text, old, repl := args[0].AsString(), args[1].AsString(), args[2].AsString()
			if len(old) < 2 || old[0] != '/' || old[len(old)-1] != '/' {
				return cty.StringVal(strings.ReplaceAll(text, old, repl)), nil
			}
			re, err := regexp.Compile(old[1 : len(old)-1])
			if err != nil {
				return cty.NilVal, function.NewArgError(1, err)
			}
			return cty.StringVal(re.ReplaceAllString(text, repl)), nil
		},
	})
}

// characters counts what a reader would call the characters of a text.
func characters(s string) int {
	n, err := stdlib.Strlen(cty.StringVal(s))
	if err != nil {
		return utf8.RuneCountInString(s)
	}
	i, _ := n.AsBigFloat().Int64()
	return int(i)
}
