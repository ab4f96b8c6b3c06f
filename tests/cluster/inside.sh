#!/usr/bin/env bash
# Runs a command in a network of its own, where every address of a fake pod is this machine: no uplink, no port of ours outside.
# Usage: inside.sh COMMAND...    Needs root, or a kernel that lets users make namespaces.
set -euo pipefail
if [ -z "${VISIONR1_INSIDE:-}" ]; then
    export VISIONR1_INSIDE=1
    if [ "$(id -u)" = 0 ]; then exec unshare --net "$0" "$@"; fi
    exec unshare --map-root-user --net "$0" "$@"
fi
ip link set lo up
ip route add local 198.18.0.0/15 dev lo
exec "$@"
