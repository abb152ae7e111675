// Package chart draws curves as SVG: panels side by side on the same logarithmic
// axes. A drawing can be read on light and on dark pages, by those who do not
// tell its colours apart (each curve has a mark of its own), and by a screen
// reader (title, description, and a title at each point).
//
// The same values give the same bytes. It draws nothing but positive numbers; a
// curve of shares or of zeros is not for it.
package chart
