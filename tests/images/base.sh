#!/usr/bin/env bash
# Makes the Debian image that the Dockerfiles begin with where no registry can be reached: debootstrap, then what slim images leave
# out. The archive is kept in the cache; buildah gets it under the name that it is given.
# Usage: base.sh IMAGE    Needs root, debootstrap and buildah.
set -euo pipefail
buildah inspect --type image "$1" >/dev/null 2>&1 && exit 0
home=${XDG_CACHE_HOME:-$HOME/.cache}/visionr1-ptst/images
archive=$home/debian-bookworm.tar
mkdir -p "$home"
if [ ! -e "$archive" ]; then
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    echo "making a Debian base image"
    debootstrap --variant=minbase bookworm "$root/debian" >"$home/debootstrap.log"
    (cd "$root/debian" && rm -rf usr/share/{doc,info,locale,man}/* var/lib/apt/lists/* var/cache/apt/* var/log/* dev/* proc/* sys/*)
    tar --create --file "$archive.new" --directory "$root/debian" .
    mv "$archive.new" "$archive"
fi
container=$(buildah from scratch)
buildah add --quiet "$container" "$archive" / >/dev/null
buildah config --cmd /bin/bash --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
buildah commit --quiet --rm "$container" "$1" >/dev/null
