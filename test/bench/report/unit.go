package report

import (
	"math"
	"strconv"
)

// Unit is the base unit of samples.
type Unit string

// The units there are.
const (
	Seconds Unit = "seconds"
	Bytes   Unit = "bytes"
	Share   Unit = "share" // of one, such as of one CPU
	Count   Unit = "count"
	Times   Unit = "times" // so many times as much
)

// Text writes a value for people: three digits, and a unit that keeps them near 1.
func (u Unit) Text(v float64) string {
	switch u {
	case Seconds:
		return scaled(v*1e9, 1000, "ns", "µs", "ms", "s")
	case Bytes:
		return scaled(v, 1024, "B", "KiB", "MiB", "GiB")
	case Share:
		return digits(v*100) + " %"
	case Times:
		return digits(v)
	default:
		return Number(v)
	}
}

// scaled writes a value that is in the first of units, each of which is step times the one before.
func scaled(v, step float64, units ...string) string {
	unit := 0
	// What rounds up to the next unit belongs there: 1.00 s, not 1000 ms.
	for unit < len(units)-1 && math.Abs(v) >= step-0.5 {
		v /= step
		unit++
	}
	return digits(v) + " " + units[unit]
}

// digits writes three significant digits, and all that stand before the point.
func digits(v float64) string {
	decimals := 2
	switch a := math.Abs(v); {
	case v == 0, a >= 99.95:
		decimals = 0
	case a >= 9.995:
		decimals = 1
	case a < 0.00995:
		decimals = 4
	case a < 0.0995:
		decimals = 3
	}
	if decimals == 0 {
		return Number(v)
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}

// Number writes a whole number for people: with a comma between groups of three digits.
func Number(v float64) string {
	text := strconv.FormatFloat(math.Abs(v), 'f', 0, 64)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	if v < 0 {
		return "-" + text
	}
	return text
}
