#!/usr/bin/env bash
# Prints the path of an archive with a Debian system. debootstrap makes it where it is not in the cache, without what slim images
# leave out.
# Usage: debian.sh [PACKAGE...]    PACKAGE: what it has beside the base system. Needs root and debootstrap.
set -euo pipefail
home=${XDG_CACHE_HOME:-$HOME/.cache}/visionr1-ptst/images
mkdir -p "$home"
include=$(IFS=, && echo "$*")
name=debian-bookworm${include:+-${include//,/-}}
archive=$home/$name.tar
exec {lock}>"$home/.debian.lock"
flock "$lock" # two that begin at once make it once
if [ ! -e "$archive" ]; then
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    echo "making a Debian system: $name" >&2
    debootstrap --variant=minbase ${include:+"--include=$include"} bookworm "$root/debian" >"$home/$name.log" ||
        { tail -5 "$home/$name.log" >&2; exit 1; }
    (cd "$root/debian" && rm -rf usr/share/{doc,info,locale,man}/* var/lib/apt/lists/* var/cache/apt/* var/log/* dev/* proc/* sys/*)
    tar --create --file "$archive.new" --directory "$root/debian" .
    mv "$archive.new" "$archive"
fi
echo "$archive"
