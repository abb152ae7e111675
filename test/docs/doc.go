// Package docs keeps the documentation and the program together: what Markdown
// files say about the language, commands, errors and exit codes is held against
// the code, and their specs are loaded. A failure names file and line, and what
// to do.
//
// Words in the info string after ```hcl say what a block is:
//
//	hcl                    a whole spec, valid, without a warning
//	hcl more               goes on with the spec before it
//	hcl values             a file of values for the spec before it
//	hcl warns              a whole spec with warnings; a text block right below it is what they say
//	hcl invalid            a whole spec that is wrong; the text block below it is what validate says
//	hcl fragment           blocks that use what prelude_test.go declares
//	hcl fragment overlay   the inside of an overlay
//	hcl fragment settings  the inside of the settings
//	hcl ignore             of another program
//
// A message in a heading of troubleshooting.md is written as code, with what
// varies in capitals or as "…", and with its author behind it if that is not
// overlayd: (systemd).
package docs
