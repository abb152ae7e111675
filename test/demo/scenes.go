package main

// scenes is the quickstart. Commands of one demo run in one machine, in order.
var scenes = []scene{
	{
		say: "The base: a directory that two clients shall share.",
		run: `mkdir -p /overlaytest/lowerdir && cd /overlaytest/lowerdir &&
  for i in 1 2 3; do echo "base $i" >"File $i"; done`,
	},
	{
		say:  "The spec: what the administrator writes, once for any number of clients.",
		run:  "grep -v '^#' /etc/overlayd/quickstart.hcl",
		want: []string{"for_each", "lowerdir.base"},
	},
	{
		say:  "What would be done? A plan looks, and touches nothing.",
		run:  "overlayd plan",
		want: []string{`overlay.client["client_1"]`, `overlay.client["client_2"]`, "Plan: 2 to create"},
	},
	{
		say:  "Do it. (On a terminal apply asks first; here nobody could answer.)",
		run:  "overlayd apply --auto-approve",
		want: []string{`overlay.client["client_1"]`, `overlay.client["client_2"]`},
	},
	{
		say: "Now client_1 changes File 1, deletes File 2 and creates File 4.",
		run: `cd /overlaytest/merged/client_1 &&
  echo changed >"File 1" && rm "File 2" && echo new >"File 4"`,
	},
	{
		say:    "For client_1 all that is true.",
		run:    "grep . /overlaytest/merged/client_1/*",
		want:   []string{"File 1:changed", "File 3:base 3", "File 4:new"},
		absent: []string{"File 2"},
	},
	{
		say:    "For client_2 nothing has changed.",
		run:    "grep . /overlaytest/merged/client_2/*",
		want:   []string{"File 1:base 1", "File 2:base 2", "File 3:base 3"},
		absent: []string{"File 4"},
	},
	{
		say:    "Nor in the base, which is stored once.",
		run:    "grep . /overlaytest/lowerdir/*",
		want:   []string{"File 1:base 1", "File 2:base 2", "File 3:base 3"},
		absent: []string{"File 4"},
	},
	{
		say:    "client_1's upperdir holds exactly the difference: two files, and a mark (a 0/0 device) for the deleted one.",
		run:    "ls -l /overlaytest/client_1/upperdir",
		want:   []string{"File 1", "0, 0", "File 2", "File 4"},
		absent: []string{"File 3"},
	},
	{
		say:    "Nobody has to read that: diff tells what the client changed,",
		run:    `overlayd diff 'overlay.client["client_1"]'`,
		want:   []string{"C /File 1\n", "D /File 2\n", "A /File 4\n"},
		absent: []string{"File 3"},
	},
	{
		say:  "and du what it costs, and what full copies would.",
		run:  "overlayd du",
		want: []string{`overlay.client["client_1"]`, "saved"},
	},
	{
		say:   "To systemd each overlay is a mount unit like any other.",
		await: "systemctl is-active overlaytest-merged-client_1.mount",
		run:   "systemctl status --no-pager --lines=0 overlaytest-merged-client_1.mount",
		want:  []string{"active (mounted)", "enabled"},
	},
	{
		say:  "Spec and host agree: exit code 0, where 2 would be a difference.",
		run:  "overlayd plan --detailed-exitcode; echo $?",
		want: []string{"\n0\n"},
	},
	{
		say:   "Somebody takes a mount away by hand.",
		await: `test -z "$(systemctl list-jobs --no-legend)"`,
		run:   "umount /overlaytest/merged/client_1",
	},
	{
		say:  "Drift shows it, and needs no spec for that.",
		run:  "overlayd drift",
		want: []string{`overlay.client["client_1"]`},
	},
	{
		say:  "Apply mends it,",
		run:  "overlayd apply --auto-approve",
		want: []string{`overlay.client["client_1"]`},
	},
	{
		say:  "and the client's files are there again.",
		run:  "grep . /overlaytest/merged/client_1/*",
		want: []string{"File 1:changed", "File 4:new"},
	},
	{
		say: "A reboot. At boot systemd mounts by itself: overlayd could be removed.",
	},
	{
		run:  "findmnt -t overlay -o TARGET,SOURCE,FSTYPE",
		want: []string{"/overlaytest/merged/client_1", "/overlaytest/merged/client_2"},
	},
	{
		run:  "overlayd status",
		want: []string{`overlay.client["client_1"]`, `overlay.client["client_2"]`, "mounted"},
	},
	{
		run:  "grep . /overlaytest/merged/client_1/*",
		want: []string{"File 1:changed", "File 3:base 3", "File 4:new"},
	},
	{
		say:  "The next user of client_1 shall start afresh. What the last one wrote is kept, to be sure.",
		run:  `overlayd reset --auto-approve --keep 'overlay.client["client_1"]'`,
		want: []string{`overlay.client["client_1"]`, "Kept: /overlaytest/client_1/upperdir.reset-"},
	},
	{
		run:    "grep . /overlaytest/merged/client_1/*",
		want:   []string{"File 1:base 1", "File 2:base 2", "File 3:base 3"},
		absent: []string{"File 4"},
	},
	{
		say: "All of this by hand. From here on an agent keeps the host as the spec says:",
		run: "systemctl enable --now overlayd",
	},
	{
		say: "a mount that somebody takes away",
		run: "umount /overlaytest/merged/client_2",
	},
	{
		say:   "is back at once,",
		await: "mountpoint -q /overlaytest/merged/client_2 && journalctl -u overlayd -o cat | grep -q repaired",
		run:   "grep . /overlaytest/merged/client_2/*; journalctl -u overlayd --no-pager -o cat | grep repaired",
		want:  []string{"File 1:base 1", "repaired overlay.client[\"client_2\"] (not mounted)"},
	},
	{
		say:   "and what it did, holds back, or could not do is told.",
		await: "overlayd status | grep -q 'last did'",
		run:   "overlayd status",
		want:  []string{"Agent: running", "policy safe"},
	},
}
