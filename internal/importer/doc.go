// Package importer writes a spec for overlays that are there already: what a kernel shows of a mount, and what a line
// of fstab says, as blocks of HCL on which a plan says "adopt" and nothing else.
//
// It is pure. Its caller says what is mounted, and what the paths are; and its caller has the last word: it loads what
// [Draft.Render] gives and plans it, and what the language or the host refuses goes back with [Draft.LeaveOut], which
// makes a comment of it. So no rule of the language is written here a second time.
//
// Do not use it to write specs in general. It knows no variables and no for_each, and it writes a block for each mount,
// so that an administrator finds again what there was; making one block of thirty is his.
package importer
