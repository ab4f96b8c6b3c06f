#!/usr/bin/env bash
# Runs a command in namespaces of its own: a network without an uplink and, for root, mounts and processes, too. Whatever the
# command leaves (daemons, pods, mounts, temporary files) is gone when it ends, or when this script is asked to end.
# Usage: inside.sh COMMAND...    Needs root, or a kernel that lets users make namespaces (then only the fake nodes work).
set -euo pipefail
if [ -z "${VISIONR1_INSIDE:-}" ]; then
    if [ "$(id -u)" != 0 ]; then
        VISIONR1_INSIDE=user exec unshare --map-root-user --net "$0" "$@"
    fi
    TMPDIR=$(mktemp -d /tmp/vr1-XXXXXX)
    export TMPDIR
    # What kubectl and helm keep of an API server, they keep by its address, which another test cluster has, too.
    export KUBECACHEDIR=$TMPDIR/kube-cache
    # The kubelet sets these for the whole machine.
    for name in vm/overcommit_memory kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
        echo "$name $(cat "/proc/sys/$name")"
    done >"$TMPDIR/.settings"
    exec {owner}>"$TMPDIR/.owner"
    flock "$owner" # as long as this process lives, which down.sh asks for
    restore() {
        trap '' TERM INT HUP # who ends a group may well say it twice
        "$(dirname "$0")/down.sh" "$TMPDIR"
    }
    trap restore EXIT
    trap 'exit 143' TERM INT HUP
    VISIONR1_INSIDE=root unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "$@" <&0 {owner}>&- &
    echo $! >"$TMPDIR/.child"
    code=0
    wait $! || code=$?
    exit "$code"
fi
ip link set lo up
# The node: a veth pair, for not every kernel has dummy devices. Services need a route before they are rewritten.
ip link add node0 type veth peer name node0p
ip link set node0 up
ip link set node0p up
ip address add 198.18.255.1/24 dev node0
ip route add 198.19.0.0/16 dev node0
# Every address of a fake pod is this machine.
ip route add local 198.18.0.0/17 dev lo
[ "$VISIONR1_INSIDE" != root ] || mount --make-rshared /
code=0
"$@" || code=$? # not exec: as process 1 this shell takes orphans in
exit "$code"
