// Package units holds a systemd .mount unit of one overlay as a value: its name, its text, and what is read back from
// a text.
//
// It is pure: no file, no clock, no D-Bus. Package systemd below it has the unit directory and the manager.
//
// Do not use it for units in general. [Mount.Render] writes one fixed form, and [Parse] knows only the keys of that
// form plus what is needed to say which mount a foreign unit makes; everything else of a foreign unit is passed over.
package units
