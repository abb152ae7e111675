package plan

import "slices"

// Hold extends what is held back (index of a change → why) to what cannot be done without it: what stands on a mount
// that stays must not be taken down for nothing, what a mount stands on must not be taken from under it, and an
// upperdir that stays in use is not free for another. The reasons of the additions name the change they wait for.
func (p Plan) Hold(held map[int]string) map[int]string {
	out := make(map[int]string, len(held))
	var queue []int
	for i, why := range held {
		out[i] = why
		queue = append(queue, i)
	}
	slices.Sort(queue)
	if len(queue) == 0 {
		return out
	}
	downs := map[string][]int{}  // mountpoint a live overlay stands on → changes that take that overlay down
	wants := map[string][]int{}  // key of an upperdir or workdir → changes that mount it
	owners := map[string][]int{} // mountpoint → changes that take it down
	above := map[string][]int{}  // mountpoint → changes that mount on what is mounted there
	for i := range p.Changes {
		do := &p.Changes[i].Do
		for _, l := range do.Unmount {
			owners[l.Mountpoint] = append(owners[l.Mountpoint], i)
			for _, b := range l.Below {
				downs[b] = append(downs[b], i)
			}
		}
		for _, h := range do.Holds {
			wants[h] = append(wants[h], i)
		}
		for _, b := range do.Below {
			above[b] = append(above[b], i)
		}
	}
	for len(queue) > 0 {
		i := queue[0]
		queue = queue[1:]
		c := &p.Changes[i]
		hold := func(others []int, why string) {
			for _, j := range others {
				if _, known := out[j]; !known && p.Changes[j].Kind != Conflict && p.Changes[j].Kind != NoOp {
					out[j] = why
					queue = append(queue, j)
				}
			}
		}
		if c.Do.Mount != nil && len(c.Do.Unmount) == 0 {
			hold(above[c.Mountpoint], c.Address+", which it stands on, is not mounted")
		}
		for _, l := range c.Do.Unmount {
			for _, h := range l.Holds {
				hold(wants[h], c.Address+" keeps its upperdir or workdir in use")
			}
			for _, b := range l.Below {
				hold(owners[b], c.Address+", which stands on it, stays mounted")
			}
			for _, j := range downs[l.Mountpoint] {
				if p.Changes[j].DraggedBy == c.Address {
					hold([]int{j}, c.Address+", which it stands on, stays mounted")
				}
			}
		}
	}
	return out
}
