#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A bad configuration or command line names the file, the line and the value, and starts nothing.
# shellcheck disable=SC2317
# shellcheck source=tests/functions.sh
. "${KMM_SRCDIR:-.}/tests/functions.sh"

conf=$test_dir/kmmd.conf

# refuses WORDS -- ARGUMENT...: exit status 2, and each of the words is in what it says.
refuses() {
	local words=() word out status

	while [ "$1" != -- ]; do
		words+=("$1")
		shift
	done
	shift
	out=$(timeout 300 "$KMMD" --socket "$daemon_socket" "$@" 2>&1 </dev/null)
	status=$?
	printf '%s\n' "$out"
	if [ "$status" -ne 2 ]; then
		echo "exit status $status instead of 2"
		return 1
	fi
	for word in "${words[@]}"; do
		if ! grep -qF -- "$word" <<<"$out"; then
			echo "does not say: $word"
			return 1
		fi
	done
	if [ -e "$daemon_socket" ]; then
		echo "left a socket behind"
		return 1
	fi
}

# bad_config LINE_NUMBER WORD TEXT: the same, for a file.
bad_config() {
	printf '%b' "$3" >"$conf"
	refuses "$conf:$1" "$2" -- --config "$conf"
}

accepts() {
	printf '%b' "$1" >"$conf"
	"$KMMD" --socket "$daemon_socket" --config "$conf" --check-config
}

check "an option that there is not" refuses --no-such-option -- --no-such-option
check "a word that is no option" refuses whatever -- whatever
check "a value that is missing" refuses --pool-size -- --pool-size
check "a size that is no number" refuses --pool-size lots -- --pool-size lots
check "a size with an unknown unit" refuses --pool-size 64X -- --pool-size 64X
check "a negative size" refuses --pool-size -64M -- --pool-size -64M
check "a size that overflows" refuses --pool-size 99999999999T -- --pool-size 99999999999T
check "a pool that is too small" refuses --pool-size 1K -- --pool-size 1K
check "a pool of a broken section" refuses 65M -- --pool-size 65M
check "a section that is no power of two" refuses --section-size 5M -- --section-size 5M
check "a backing that there is not" refuses --backing gold "hugetlb" -- --backing gold
check "no node" refuses --nodes 0 -- --nodes 0
check "too many nodes" refuses --nodes 65 -- --nodes 65
check "no reactor" refuses --reactors 0 -- --reactors 0
check "a number with a letter behind" refuses --reactors 2x -- --reactors 2x
check "an empty value" refuses --reactors -- --reactors=
check "a socket path that is too long" refuses --socket -- --socket "/$(printf 'x%.0s' {1..200})"
check "a socket path that is relative" refuses --socket -- --socket here
check "a file that is not there" refuses "$test_dir/nowhere" -- --config "$test_dir/nowhere"
check "all of it under --supervise too" refuses --pool-size lots -- --supervise --pool-size lots

check "an unknown section" bad_config 2 '[poll]' '[poll]\nsize = 1G\n'
check "an unknown key" bad_config 2 'sise' '[pool]\nsise = 1G\n'
check "a key in no section" bad_config 1 'size' 'size = 1G\n'
check "a bad value far down" bad_config 6 'fast' '[pool]\nsize = 64M\n\n# why not\n[daemon]\nreactors = fast\n'
check "a key twice" bad_config 3 'size' '[pool]\nsize = 64M\nsize = 128M\n'
check "no key at all" bad_config 2 "$conf" '[pool]\nsize\n'
check "a quota that is no number" bad_config 2 'many' '[limits]\npages = many\n'
check "an octal mode that is none" bad_config 2 '0999' '[daemon]\nsocket_mode = 0999\n'
check "an unknown user" bad_config 2 'nobody-of-that-name' '[access]\nadmins = nobody-of-that-name\n'
check "an unknown group" bad_config 2 'no-such-group' '[daemon]\nsocket_group = no-such-group\n'

check "an unknown group to connect" bad_config 2 '@no-such-group' '[access]\nusers = root,\n  @no-such-group\n'
check "an unknown user with a quota" bad_config 2 '[user no-such-user]' '[user no-such-user]\npages = 1\n'
check "a key of a user that there is not" bad_config 2 'no key of [user root]' '[user root]\ngrace = 1\n'
check "CPUs that it may not run on" bad_config 2 'it may on' '[daemon]\ncpus = 1000-1023\n'
check "a zone on what cannot be mapped" bad_config 2 'it takes thp or 4k' '[pool]\nhighmem_backing = hugetlb\n'
printf '[pool]\nsize = 64M\nhighmem = 40M\nmovable = 20M\n' >"$conf"
check "zones that leave no room" refuses "leave no room for zone DMA" "[pool]" -- --check-config --config "$conf"

# several_lines: all that is wrong is said in one go.
several_lines() {
	printf '[pool]\nsize = lots\nsise = 1\n[limits]\npages = many\n[no]\nx = 1\n' >"$conf"
	refuses "$conf:2: [pool] size = lots: not allowed; it takes a size from 16M to 1T" \
		"$conf:3: sise = 1: no key of [pool] is called sise; there are size max_size section_size" \
		"$conf:5: [limits] pages = many" "$conf:7: x = 1: no section is called [no]" -- --config "$conf"
}
check "every wrong line" several_lines

# prints WORDS -- TEXT: --check-config says what would be in force, and from where.
prints() {
	local words=() out word

	while [ "$1" != -- ]; do
		words+=("$1")
		shift
	done
	printf '%b' "$2" >"$conf"
	out=$("$KMMD" --socket "$daemon_socket" --config "$conf" --nodes 2 --check-config) || return 1
	for word in "${words[@]}"; do
		if ! tr -s ' ' <<<"$out" | grep -qxF -- "$word"; then
			printf '%s\ndoes not say: %s\n' "$out" "$word"
			return 1
		fi
	done
	# It is a configuration that says the same.
	printf '%s\n' "$out" >"$conf.again"
	"$KMMD" --config "$conf.again" --check-config | sed 's/ *; .*//' | diff - <(sed 's/ *; .*//' <<<"$out")
}
check "what is in force is printed" prints "size = 64M ; $conf:2" "nodes = 2 ; --nodes" "calls = 1024 ; default" \
	"[user root]" "pages = 7 ; $conf:4" -- '[pool]\nsize = 64M\n[user root]\npages = 7\n'
# As installed, but for the group, which this machine may not have.
check "the file to begin with, all of it" accepts \
	"$(sed -n 's/^#\([a-z_0-9]* = \)/\1/; /^\[/p; /^[a-z]/{/_group\|^users\|^inspectors\|^admins\|^cpus/d; p;}' \
		"${KMM_SRCDIR:-.}/contrib/systemd/kmmd.conf" | sed 's/$/\\n/' | tr -d '\n')"

check "a good file" accepts '# all is well\n[pool]\nsize = 64M\nbacking = 4k\n[limits]\npages = 4096\n'
check "an empty file" accepts ''

# The command line overrides the file, wherever --config stands.
printf '[pool]\nsize = 128M\nbacking = 4k\n[daemon]\nreactors = 1\n' >"$conf"
daemon_start --pool-size 64M --config "$conf"
check "the command line overrides the file" grep -q '^MemTotal: *6[0-5][0-9][0-9][0-9] kB' <(ctl meminfo)
finish
