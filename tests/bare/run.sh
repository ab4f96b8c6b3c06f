#!/usr/bin/env bash
# Runs commands in a new clone of the last commit, on a Debian system that has what README asks for and nothing else, as a user
# without rights. The network is this machine's, and so is what tells pip and uv of their index. All is gone when the last command
# ends, or when this script is asked to end; what is left when it is killed (kill -9) is a folder, and the next one removes that.
# Usage: run.sh COMMAND...    Each COMMAND is a line for the shell; all are run, also after one fails.
# Environment: RUNS, a folder that gets what the commands leave in runs/; COVERAGE, which make test reads.
# Needs root, debootstrap, git and 12 GB in /var/tmp.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
checkout=$(cd "$here/../.." && pwd)

for left in /var/tmp/visionr1-bare-*/; do # of one that was killed before it could remove it
    if [ -e "$left/.owner" ] && flock --nonblock "$left/.owner" true; then rm -rf "$left"; fi
done
archive=$("$here/../images/debian.sh" libnuma1 make python3 python3-venv)
folder=$(mktemp -d /var/tmp/visionr1-bare-XXXXXX)
child=
ended() {
    trap '' TERM INT HUP # who ends a group may well say it twice
    [ -z "$child" ] || kill -KILL "$child" 2>/dev/null || true
    wait
    rm -rf "$folder" || { sleep 2; rm -rf "$folder"; } # the kernel may still be ending what wrote there
}
trap ended EXIT
trap 'exit 143' TERM INT HUP
exec {owner}>"$folder/.new"
flock "$owner"
mv "$folder/.new" "$folder/.owner" # only now can another one take it for left behind
mkdir "$folder/root"
tar --extract --file "$archive" --directory "$folder/root"
[ -z "$(git -C "$checkout" status --porcelain)" ] || echo "bare: changes that are not committed are left out" >&2
mkdir -p "$folder/root/home/visitor"
git clone --quiet --no-hardlinks "$checkout" "$folder/root/home/visitor/visionr1-ptst"

# What goes with this script goes with its mounts: the kernel ends the child, and with it all that runs in there.
setpriv --pdeathsig KILL unshare --mount --pid --ipc --uts --fork --kill-child \
    "$here/inside.sh" "$folder" "$@" {owner}>&- </dev/null &
child=$!
code=0
wait "$child" || code=$?
child=
made=$folder/root/home/visitor/visionr1-ptst/runs
if [ -n "${RUNS:-}" ] && [ -d "$made" ]; then
    mkdir -p "$RUNS"
    cp -r --no-preserve=ownership "$made/." "$RUNS"
fi
exit "$code"
