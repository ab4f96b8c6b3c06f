#!/usr/bin/env bash
# Takes away what inside.sh has made: its namespaces with all that runs in them, cgroups, kernel settings and temporary files.
# Usage: down.sh [FOLDER]    FOLDER: that of one inside.sh; without, those of each that was killed before it could do this.
set -euo pipefail

down() { # FOLDER
    local child
    child=$(cat "$1/.child" 2>/dev/null) || true
    # By now its number may be another process's.
    if [ -n "$child" ] && grep -qs tests/cluster/inside.sh "/proc/$child/cmdline"; then
        kill -KILL "$child" # unshare takes process 1 and all below it along
        sleep 1 # a cgroup can be removed once its last process is gone
    fi
    while read -r name value; do echo "$value" 2>/dev/null >"/proc/sys/$name" || true; done <"$1/.settings"
    find /sys/fs/cgroup -depth -type d -path "*/visionr1-pods-${1##*/}*" -exec rmdir {} + 2>/dev/null || true
    rm -rf "$1"
}

if [ -n "${1:-}" ]; then
    down "$1"
    exit
fi
for owner in /tmp/vr1-*/.owner; do
    if [ -e "$owner" ] && flock --nonblock "$owner" true; then
        echo "removing what a test cluster has left: ${owner%/.owner}"
        down "${owner%/.owner}"
    fi
done
