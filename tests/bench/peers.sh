#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Installs what make bench compares kmmd with, from Debian 12 (as root; else it names the packages).
# Nothing else of the project needs them. Afterwards: configure again, make bench.
set -euo pipefail

packages=(
	g++ libmimalloc-dev libjemalloc-dev libgoogle-perftools-dev
	libdpdk-dev libboost-dev iceoryx libiceoryx-posh-dev
)

missing=()
for p in "${packages[@]}"; do
	dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$p")
done
if [ ${#missing[@]} -eq 0 ]; then
	echo "peers: all are there"
elif [ "$(id -u)" -ne 0 ]; then
	echo "peers: as root: apt-get install --no-install-recommends ${missing[*]}" >&2
	exit 1
else
	apt-get update
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
fi
