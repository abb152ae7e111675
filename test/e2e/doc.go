// Package e2e plays overlayd on a real systemd, as a user would: the scripts in
// testdata/script run on a freshly booted Debian 12 and Debian 13 each. Loops
// and races that a script cannot say are Go tests beside them.
//
// What belongs here: what only a kernel, mount(8), systemd and the overlayd
// binary together can show, such as boots, races, kills. A rule of the language
// or a row of the decision table is cheaper and sharper to test in its own
// package. Scripts are strict about states, exit codes, JSON and mount tables,
// and loose about wording: a message has to name the thing.
//
// Everything here needs the build tag e2e, root, systemd-nspawn and mmdebstrap
// (test/setup.sh installs them):
//
//	go test -tags e2e ./test/e2e
//	go test -tags e2e ./test/e2e -run 'Script/trixie/quickstart' -v
//
// In the machines apt has installed the package of overlayd: what "make deb" has
// made last, or OVERLAYD_DEB. OVERLAYD_BIN names a binary to put in the place of
// the package's.
//
// The folder examples of this tree is in each script's working directory, and so is
// packaging/deb/tests, as autopkgtest.
//
// Besides testscript's own commands, scripts have:
//
//	boot [clean]             boot the machine; the first command of a script; clean: without overlayd
//	bare [clean]             instead of boot: no systemd in the machine
//	reboot, powercut         restart it, in order or not; ends when it is up again
//	put FILE PATH            copy a file of the script into the machine
//	package PATH             copy the package of overlayd into the machine
//	[!] overlayd ARG...      run overlayd; ! asks for exit code 1, neither 0 nor another
//	exit N COMMAND...        run a command in the machine, ask for exit code N
//	[!] host COMMAND...      run a command in the machine
//	[!] hostsh SCRIPT        run a shell script in the machine; SCRIPT may be a file of the script
//	await SCRIPT             run a shell script over and over until it succeeds
//	settle                   wait until systemd has no job left
//	state WANT               ask for what `systemctl is-system-running` said after the boot
//	[!] says REGEXP          look for a message on stdout or stderr of the last command
//	[!] json PATH [VALUE]    look into the JSON on stdout: .changes[0].via, .changes.length,
//	                         .changes[address=overlay.x].reasons; VALUE is a text, or ~REGEXP;
//	                         of a list, one element has to match
//	mounttable FILE          save the machine's overlay mounts, in a form that is equal after a reboot
//	mounts N [PATH]          ask for the number of overlay mounts (at PATH)
//	[!] agent PATH [VALUE]   wait until the agent's state is so, as json would look at it
//	reconciled               have the agent load the spec and look at all of the host, after this moment
//	logged N FIELD=VALUE...  ask for N lines of the agent in the journal that have these fields, JSON on stdout;
//	                         N+ is at least so many
//
// The agent is installed, neither enabled nor started. That an agent leaves something alone is asked after
// reconciled: by then it has had its chance.
package e2e
