// Package config reads the language of overlayd: HCL files in, a [Spec] out,
// with diagnostics that point at the line.
//
// [Load] finds and reads the files; everything after that depends on what was
// read and on [Inputs] alone. A spec passes through these steps:
//
//   - declare (parse.go, module.go, schema.go): blocks and attributes, known or
//     not
//   - check (refs.go): every name that is referred to exists
//   - variables (values.go): values from outside, converted to their types
//   - resolve (graph.go, eval.go, template.go, instances.go, foreach.go): locals,
//     lowerdirs and the mountpoints of overlays, what is used before what uses it
//   - build (overlay.go, options.go, agent.go): the rest of every overlay, and
//     the settings
//   - relate (overlaps.go, stacking.go): overlays against each other
//
// All problems of a spec are reported in one run, and each of them once: what
// failed is unknown from there on, unknown values spread, and nothing is
// reported of them.
//
// The package knows nothing of the host. Whether a directory exists, where a
// symlink leads, who an owner is, how long the kernel's options get with
// symlinks resolved and how the unit is called is none of its business: ask
// package reconcile. To find out what is mounted or applied, do not load a
// spec; the unit files and the mount table say that.
package config
