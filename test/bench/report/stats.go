package report

import (
	"math"
	"slices"
)

// Median is the middle of the samples, or the mean of the two in the middle; 0 of none.
func Median(samples []float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(samples))
	middle := len(s) / 2
	if len(s)%2 == 1 {
		return s[middle]
	}
	return s[middle-1] + (s[middle]-s[middle-1])/2
}

// Percentile is the smallest sample that p percent of the samples do not exceed (the nearest rank, so always one that
// was measured); 0 of none.
func Percentile(samples []float64, p float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(samples))
	rank := int(math.Ceil(p / 100 * float64(len(s))))
	return s[min(max(rank, 1), len(s))-1]
}
