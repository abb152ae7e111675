package config

import (
	"errors"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// collectionFunctions are those that differ from the standard library's of the
// same purpose, or are missing there.
func collectionFunctions() map[string]function.Function {
	return map[string]function.Function{
		"alltrue":   booleansFunc(true, func(acc, v bool) bool { return acc && v }),
		"anytrue":   booleansFunc(false, func(acc, v bool) bool { return acc || v }),
		"coalesce":  coalesceFunc(),
		"distinct":  distinctFunc(),
		"index":     indexFunc(),
		"length":    lengthFunc(),
		"lookup":    lookupFunc(),
		"matchkeys": matchkeysFunc(),
		"one":       oneFunc(),
		"range":     rangeFunc(),
		"sum":       sumFunc(),
		"transpose": transposeFunc(),
	}
}

// anything is a parameter of any type.
func anything(name string) function.Parameter {
	return function.Parameter{Name: name, Type: cty.DynamicPseudoType}
}

// alike makes a list or a map of a first argument whose elements are all of one
// type before it calls f. Left to itself, the conversion compares the type of
// each element with that of every other one.
func alike(f function.Function) function.Function {
	return function.New(&function.Spec{
		Params: f.Params(),
		Type: func(args []cty.Value) (cty.Type, error) {
			return f.ReturnTypeForValues([]cty.Value{collection(args[0])})
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return f.Call([]cty.Value{collection(args[0])})
		},
	})
}

func collection(v cty.Value) cty.Value {
	t := v.Type()
	if !v.IsKnown() || v.IsNull() || v.IsMarked() || !t.IsTupleType() && !t.IsObjectType() || v.LengthInt() < 2 {
		return v
	}
	element := cty.NilType
	for it := v.ElementIterator(); it.Next(); {
		_, el := it.Element()
		if element == cty.NilType {
			element = el.Type()
		}
		if element == cty.DynamicPseudoType || !element.Equals(el.Type()) {
			return v
		}
	}
	if t.IsTupleType() {
		return cty.ListVal(v.AsValueSlice())
	}
	return cty.MapVal(v.AsValueMap())
}

// distinctFunc drops what comes a second time. For strings it takes one step
// per element; the standard library compares each with all before.
func distinctFunc() function.Function {
	general := stdlib.DistinctFunc
	return alike(function.New(&function.Spec{
		Params: general.Params(),
		Type:   func(args []cty.Value) (cty.Type, error) { return general.ReturnTypeForValues(args) },
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			list := args[0]
			if list.Type() != cty.List(cty.String) || list.LengthInt() == 0 || !list.IsWhollyKnown() {
				return general.Call(args)
			}
			seen := map[cty.Value]bool{}
			var out []cty.Value
			for _, v := range list.AsValueSlice() {
				if !seen[v] {
					seen[v] = true
					out = append(out, v)
				}
			}
			return cty.ListVal(out), nil
		},
	}))
}

func booleansFunc(start bool, join func(acc, v bool) bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "list", Type: cty.List(cty.Bool)}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			acc := start
			for it := args[0].ElementIterator(); it.Next(); {
				_, v := it.Element()
				if !v.IsKnown() {
					return cty.UnknownVal(cty.Bool), nil
				}
				acc = join(acc, !v.IsNull() && v.True())
			}
			return cty.BoolVal(acc), nil
		},
	})
}

// coalesceFunc returns the first argument that is neither null nor "".
func coalesceFunc() function.Function {
	p := function.Parameter{
		Name: "values", Type: cty.DynamicPseudoType, AllowNull: true, AllowUnknown: true, AllowDynamicType: true,
	}
	unify := func(args []cty.Value) (cty.Type, error) {
		if len(args) == 0 {
			return cty.NilType, errors.New("at least one argument is needed")
		}
		types := make([]cty.Type, len(args))
		for i, a := range args {
			types[i] = a.Type()
		}
		t, _ := convert.UnifyUnsafe(types)
		if t == cty.NilType {
			return cty.NilType, errors.New("all arguments must have the same type")
		}
		return t, nil
	}
	return function.New(&function.Spec{
		VarParam: &p,
		Type:     unify,
		Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
			for _, a := range args {
				v, err := convert.Convert(a, t)
				if err != nil {
					return cty.NilVal, err
				}
				if !v.IsKnown() {
					return cty.UnknownVal(t), nil
				}
				if v.IsNull() || v.Type() == cty.String && v.AsString() == "" {
					continue
				}
				return v, nil
			}
			return cty.NilVal, errors.New("every argument is null or empty")
		},
	})
}

// indexFunc returns where in a list a value is.
func indexFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{anything("list"), anything("value")},
		Type: func(args []cty.Value) (cty.Type, error) {
			if t := args[0].Type(); !t.IsListType() && !t.IsTupleType() {
				return cty.NilType, function.NewArgErrorf(0, "a list is needed")
			}
			return cty.Number, nil
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			for it := args[0].ElementIterator(); it.Next(); {
				i, v := it.Element()
				eq, err := stdlib.Equal(v, args[1])
				if err != nil {
					return cty.NilVal, err
				}
				if !eq.IsKnown() {
					return cty.UnknownVal(cty.Number), nil
				}
				if eq.True() {
					return i, nil
				}
			}
			return cty.NilVal, errors.New("the value is not in the list")
		},
	})
}

// lengthFunc counts elements, or the characters of a string.
func lengthFunc() function.Function {
	p := anything("value")
	return function.New(&function.Spec{
		Params: []function.Parameter{p},
		Type: func(args []cty.Value) (cty.Type, error) {
			t := args[0].Type()
			if t != cty.String && !t.IsCollectionType() && !t.IsTupleType() && !t.IsObjectType() {
				return cty.NilType, function.NewArgErrorf(0, "a string, a list, a set, a map or an object is needed")
			}
			return cty.Number, nil
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			v := args[0]
			if v.Type() == cty.String {
				return cty.NumberIntVal(int64(characters(v.AsString()))), nil
			}
			if v.Type().IsObjectType() {
				return cty.NumberIntVal(int64(len(v.Type().AttributeTypes()))), nil
			}
			return v.Length(), nil
		},
	})
}

// lookupFunc returns an element of a map, or a default when one is given.
func lookupFunc() function.Function {
	fallback := anything("default")
	fallback.AllowNull = true
	return function.New(&function.Spec{
		Params:   []function.Parameter{anything("map"), {Name: "key", Type: cty.String}},
		VarParam: &fallback,
		Type: func(args []cty.Value) (cty.Type, error) {
			t := args[0].Type()
			switch {
			case len(args) > 3:
				return cty.NilType, errors.New("there are three arguments at most")
			case t.IsMapType() && len(args) == 3:
				unified, _ := convert.UnifyUnsafe([]cty.Type{t.ElementType(), args[2].Type()})
				if unified == cty.NilType {
					return cty.NilType, function.NewArgErrorf(2, "the default must be of the type of the map's elements")
				}
				return unified, nil
			case t.IsMapType():
				return t.ElementType(), nil
			case !t.IsObjectType():
				return cty.NilType, function.NewArgErrorf(0, "a map or an object is needed")
			case !args[1].IsKnown():
				return cty.DynamicPseudoType, nil
			case t.HasAttribute(args[1].AsString()):
				return t.AttributeType(args[1].AsString()), nil
			case len(args) == 3:
				return args[2].Type(), nil
			}
			return cty.DynamicPseudoType, nil
		},
		Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
			key := args[1].AsString()
			m := args[0]
			switch {
			case m.Type().IsObjectType() && m.Type().HasAttribute(key):
				return m.GetAttr(key), nil
			case m.Type().IsMapType() && m.HasIndex(args[1]).True():
				return convert.Convert(m.Index(args[1]), t)
			case len(args) == 3:
				return convert.Convert(args[2], t)
			}
			return cty.NilVal, function.NewArgErrorf(1, "the map has no element %q and no default is given", key)
		},
	})
}
