package systemd

// CommitPrefix does the first n steps of Commit and stops as if killed. It gives back how many there are.
func (s *Staged) CommitPrefix(n int) (steps int, err error) {
	failed := &BatchError{}
	for _, step := range s.steps[:min(n, len(s.steps))] {
		failed.add(step.unit, step.run())
	}
	s.dir.Close()
	for _, wants := range s.wants {
		wants.Close()
	}
	return len(s.steps), failed.orNil()
}

var (
	StoppedByJob = stoppedByJob
	Reachable    = reachable
	SearchPath   = searchPath
)
