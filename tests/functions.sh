# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# For tests in bash: a daemon of one's own in a temporary directory, cleaned up at any end.
#
#     . "${KMM_SRCDIR:-.}/tests/functions.sh"
#     daemon_start --pool-size 64M
#     check "what is expected" command...
#     finish

set -u

KMMD=${KMMD:-./kmmd}
KMMCTL=${KMMCTL:-./kmmctl}
tests_passed=0
tests_failed=0
daemon_pid=
test_dir=$(mktemp -d /tmp/kmmd-test-XXXXXX)
daemon_socket=$test_dir/kmmd.sock
daemon_log=$test_dir/log

cleanup() {
	daemon_stop
	rm -rf "$test_dir"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# daemon_start OPTION...: returns when it serves; its messages go to $daemon_log.
daemon_start() {
	local tries=0

	"$KMMD" --socket "$daemon_socket" "$@" 2>>"$daemon_log" &
	daemon_pid=$!
	until ctl health >/dev/null 2>&1; do
		if ! kill -0 "$daemon_pid" 2>/dev/null || [ $((tries += 1)) -gt 6000 ]; then
			echo "the daemon does not serve:" >&2
			cat "$daemon_log" >&2
			exit 1
		fi
		sleep 0.05 # it sends no event to strangers
	done
}

daemon_stop() {
	local status

	[ -n "$daemon_pid" ] || return 0
	kill "$daemon_pid" 2>/dev/null
	wait "$daemon_pid"
	status=$?
	daemon_pid=
	return $status
}

# daemon_kill PID: SIGKILL; where the installed service stands in for it (tests/system), by its stand-in.
daemon_kill() {
	if [ -n "${KMM_SERVICE:-}" ]; then
		kill -s USR2 "$daemon_pid"
	else
		kill -s KILL "$1"
	fi
}

ctl() {
	"$KMMCTL" --socket "$daemon_socket" "$@"
}

# check TEXT COMMAND...: one test; what the command prints is shown when it fails.
check() {
	local what=$1 out

	shift
	if out=$("$@" 2>&1); then
		tests_passed=$((tests_passed + 1))
		echo "ok: $what"
	else
		tests_failed=$((tests_failed + 1))
		printf 'FAILED: %s\n%s\n' "$what" "$out"
	fi
}

finish() {
	cleanup
	echo "$tests_passed passed, $tests_failed failed"
	[ "$tests_failed" -eq 0 ] && [ "$tests_passed" -gt 0 ]
	exit
}
