// Package plan thinks: from what is desired and what was observed it makes a plan, and says in which order its steps
// may run. It never looks at the machine, never fails and always gives the same answer to the same question; what
// cannot be done is a change of kind [Conflict].
//
// [Diff] is the decision table, [Plan.Steps] the order, [Run] the rules that hold while steps are carried out: that no
// upperdir is ever live twice, and that nothing is taken from under an overlay that still needs it. The package is no
// help to somebody who wants to read or change a host: package reconcile does both.
package plan
