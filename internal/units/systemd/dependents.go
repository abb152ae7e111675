package systemd

import (
	"context"
	"fmt"
	"slices"
)

// stopDependencies are those along which stopping a unit stops others.
var stopDependencies = [...]string{"RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo"}

// DependentsOf gives for each unit those, sorted, that are up and that systemd would stop together with it. Each unit
// is asked for once; one without any dependents is not in the map.
func (m *Manager) DependentsOf(ctx context.Context, names []string) (map[string][]string, error) {
	fail := func(err error) (map[string][]string, error) {
		return nil, fmt.Errorf("cannot ask systemd which units depend on others: %w", err)
	}
	up := map[string]bool{}
	reached := map[string][]string{} // unit to those it takes along directly
	round := slices.Compact(slices.Sorted(slices.Values(names)))
	states, err := m.listStates(ctx, round)
	if err != nil {
		return fail(err)
	}
	round = slices.DeleteFunc(round, func(unit string) bool {
		return states[unit].Load == "not-found" && !states[unit].Up()
	})
	for len(round) > 0 {
		lists, err := m.stopReaches(ctx, round)
		if err != nil {
			return fail(err)
		}
		for i, unit := range round {
			reached[unit] = lists[i]
		}
		found := slices.Compact(slices.Sorted(slices.Values(slices.Concat(lists...))))
		states, err := m.listStates(ctx, found)
		if err != nil {
			return fail(err)
		}
		round = nil
		for _, unit := range found {
			up[unit] = states[unit].Up()
			if _, known := reached[unit]; !known && up[unit] {
				round = append(round, unit)
			}
		}
	}
	all := map[string][]string{}
	for _, unit := range names {
		if list := reachable(unit, reached, up); len(list) > 0 {
			all[unit] = list
		}
	}
	return all, nil
}

// stopReaches gives for each unit those that a stop of it goes on to.
func (m *Manager) stopReaches(ctx context.Context, names []string) ([][]string, error) {
	var ask []property
	for _, unit := range names {
		for _, kind := range stopDependencies {
			ask = append(ask, property{unit, "Unit", kind})
		}
	}
	values, err := m.properties(ctx, ask)
	if err != nil {
		return nil, err
	}
	lists := make([][]string, len(names))
	for i, value := range values {
		list, _ := value.([]string)
		lists[i/len(stopDependencies)] = append(lists[i/len(stopDependencies)], list...)
	}
	return lists, nil
}

// reachable follows the dependencies from a unit, through units that are up. A stop does not get past one that is
// down: systemd drops a job that would change nothing, and then the jobs which only that one asked for.
func reachable(from string, reached map[string][]string, up map[string]bool) []string {
	seen := map[string]bool{from: true}
	var list []string
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		for _, unit := range reached[queue[0]] {
			if !seen[unit] && up[unit] {
				queue, list = append(queue, unit), append(list, unit)
			}
			seen[unit] = true
		}
	}
	slices.Sort(list)
	return list
}
