package config

import (
	"errors"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// matchkeysFunc keeps the values whose keys are in the set that is searched.
func matchkeysFunc() function.Function {
	list := cty.List(cty.DynamicPseudoType)
	return function.New(&function.Spec{
		Params: []function.Parameter{
			{Name: "values", Type: list}, {Name: "keys", Type: list}, {Name: "search", Type: list},
		},
		Type: func(args []cty.Value) (cty.Type, error) {
			return args[0].Type(), nil
		},
		Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
			if args[0].LengthInt() != args[1].LengthInt() {
				return cty.NilVal, errors.New("values and keys must be of the same length")
			}
			var out []cty.Value
			values := args[0].AsValueSlice()
			for i, key := range args[1].AsValueSlice() {
				for _, s := range args[2].AsValueSlice() {
					eq, err := stdlib.Equal(key, s)
					if err != nil {
						return cty.NilVal, err
					}
					if !eq.IsKnown() {
						return cty.UnknownVal(t), nil
					}
					if eq.True() {
						out = append(out, values[i])
						break
					}
				}
			}
			if len(out) == 0 {
				return cty.ListValEmpty(t.ElementType()), nil
			}
			return cty.ListVal(out), nil
		},
	})
}

// oneFunc turns a list of one into its element and an empty one into null.
func oneFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{anything("list")},
		Type: func(args []cty.Value) (cty.Type, error) {
			t := args[0].Type()
			switch {
			case t.IsListType() || t.IsSetType():
				return t.ElementType(), nil
			case t.IsTupleType() && t.Length() == 1:
				return t.TupleElementType(0), nil
			case t.IsTupleType() && t.Length() == 0:
				return cty.DynamicPseudoType, nil
			}
			return cty.NilType, function.NewArgErrorf(0, "a list or set of at most one element is needed")
		},
		Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
			switch args[0].LengthInt() {
			case 0:
				return cty.NullVal(t), nil
			case 1:
				it := args[0].ElementIterator()
				it.Next()
				_, v := it.Element()
				return v, nil
			}
			return cty.NilVal, function.NewArgErrorf(0, "there is more than one element")
		},
	})
}

// rangeFunc counts. The standard library's stops at 1,024 elements, which is
// less than a spec may have overlays.
func rangeFunc() function.Function {
	return function.New(&function.Spec{
		VarParam: &function.Parameter{Name: "limits", Type: cty.Number},
		Type:     function.StaticReturnType(cty.List(cty.Number)),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			start, step := cty.Zero, cty.NumberIntVal(1)
			var end cty.Value
			switch len(args) {
			case 1:
				end = args[0]
			case 2, 3:
				start, end = args[0], args[1]
			default:
				return cty.NilVal, errors.New("one, two or three numbers are needed")
			}
			if end.LessThan(start).True() {
				step = cty.NumberIntVal(-1)
			}
			if len(args) == 3 {
				step = args[2]
			}
			if step.RawEquals(cty.Zero) {
				return cty.NilVal, function.NewArgErrorf(2, "the step must not be zero")
			}
			if hugeNumber(start.AsBigFloat()) || hugeNumber(end.AsBigFloat()) || hugeNumber(step.AsBigFloat()) {
				return cty.NilVal, errors.New("a number is too large or too close to zero")
			}
			distance := end.Subtract(start)
			if distance.RawEquals(cty.Zero) {
				return cty.ListValEmpty(cty.Number), nil
			}
			count := distance.Divide(step)
			switch {
			case count.LessThan(cty.Zero).True():
				return cty.NilVal, function.NewArgErrorf(2, "the step leads away from the end")
			case count.GreaterThan(cty.NumberIntVal(maxElements)).True():
				return cty.NilVal, function.NewArgErrorf(0, "there would be more than %d elements", maxElements)
			}
			up := step.GreaterThan(cty.Zero).True()
			var out []cty.Value
			for v := start; up && v.LessThan(end).True() || !up && v.GreaterThan(end).True(); v = v.Add(step) {
				out = append(out, v)
			}
			return cty.ListVal(out), nil
		},
	})
}

func sumFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{anything("numbers")},
		Type: func(args []cty.Value) (cty.Type, error) {
			if t := args[0].Type(); !t.IsListType() && !t.IsSetType() && !t.IsTupleType() {
				return cty.NilType, function.NewArgErrorf(0, "a list or set of numbers is needed")
			}
			return cty.Number, nil
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if args[0].LengthInt() == 0 {
				return cty.NilVal, function.NewArgErrorf(0, "there is nothing to add up")
			}
			total := cty.Zero
			for it := args[0].ElementIterator(); it.Next(); {
				_, v := it.Element()
				n, err := convert.Convert(v, cty.Number)
				if err != nil || n.IsNull() {
					return cty.NilVal, function.NewArgErrorf(0, "one element is not a number")
				}
				if !n.IsKnown() {
					return cty.UnknownVal(cty.Number), nil
				}
				total = total.Add(n)
			}
			return total, nil
		},
	})
}

// transposeFunc swaps the keys and the values of a map of lists of strings.
func transposeFunc() function.Function {
	t := cty.Map(cty.List(cty.String))
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "map", Type: t}},
		Type:   function.StaticReturnType(t),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if !args[0].IsWhollyKnown() {
				return cty.UnknownVal(t), nil
			}
			swapped := map[string][]cty.Value{}
			for it := args[0].ElementIterator(); it.Next(); {
				key, list := it.Element()
				if list.IsNull() {
					return cty.NilVal, function.NewArgErrorf(0, "one list is null")
				}
				for lt := list.ElementIterator(); lt.Next(); {
					_, v := lt.Element()
					if v.IsNull() {
						return cty.NilVal, function.NewArgErrorf(0, "one string is null")
					}
					swapped[v.AsString()] = append(swapped[v.AsString()], key)
				}
			}
			if len(swapped) == 0 {
				return cty.MapValEmpty(t.ElementType()), nil
			}
			out := make(map[string]cty.Value, len(swapped))
			for k, v := range swapped {
				out[k] = cty.ListVal(v)
			}
			return cty.MapVal(out), nil
		},
	})
}
