// Package state is what the agent tells others: a file under /run/overlayd that
// everybody may read, so that "overlayd status" can say what is held back and
// what failed without asking root, and when the agent is dead.
//
// It is no memory of the agent's: it reads nothing back from here, and what is
// applied and mounted the unit files and the mount table say. Nor is it for
// measuring: that is what the metrics are for.
package state
