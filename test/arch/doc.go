// Package arch tests the shape of the source: who may import whom, what pure
// packages may not touch, and that each package says what it is. It holds no
// code of its own.
package arch
