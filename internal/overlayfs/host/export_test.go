package host

// What tests of this package need to reach.
var (
	Diagnose       = diagnose
	OverlayLine    = overlayLine
	Concerns       = concerns
	ReadTableAt    = readTable
	ReadDefaultsAt = readDefaults
	MayFold        = mayFold
)
