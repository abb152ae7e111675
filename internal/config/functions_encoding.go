package config

import (
	"crypto/md5"  //nolint:gosec // to name things after their content, not to protect them
	"crypto/sha1" //nolint:gosec // the same
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/url"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

func encodingFunctions() map[string]function.Function {
	return map[string]function.Function{
		"base64decode": base64decodeFunc(),
		"base64encode": textFunc(func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }),
		"base64sha256": textFunc(func(s string) string {
			sum := sha256.Sum256([]byte(s))
			return base64.StdEncoding.EncodeToString(sum[:])
		}),
		"md5": textFunc(func(s string) string {
			sum := md5.Sum([]byte(s)) //nolint:gosec // see the import
			return hex.EncodeToString(sum[:])
		}),
		"sha1": textFunc(func(s string) string {
			sum := sha1.Sum([]byte(s)) //nolint:gosec // see the import
			return hex.EncodeToString(sum[:])
		}),
		"sha256": textFunc(func(s string) string {
			sum := sha256.Sum256([]byte(s))
			return hex.EncodeToString(sum[:])
		}),
		"sha512": textFunc(func(s string) string {
			sum := sha512.Sum512([]byte(s))
			return hex.EncodeToString(sum[:])
		}),
		"urlencode": textFunc(url.QueryEscape),
	}
}

func base64decodeFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			b, err := base64.StdEncoding.DecodeString(args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgErrorf(0, "not base64: %s", err)
			}
			if !utf8.Valid(b) {
				return cty.NilVal, errors.New("what it decodes to is not a text in UTF-8")
			}
			return cty.StringVal(string(b)), nil
		},
	})
}
