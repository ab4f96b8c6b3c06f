#!/usr/bin/env bash
# Makes the Debian image that the Dockerfiles begin with where no registry can be reached, under the name that it is given.
# Usage: base.sh IMAGE    Needs root, debootstrap and buildah.
set -euo pipefail
buildah inspect --type image "$1" >/dev/null 2>&1 && exit 0
archive=$("$(dirname "$0")/debian.sh")
container=$(buildah from scratch)
buildah add --quiet "$container" "$archive" / >/dev/null
buildah config --cmd /bin/bash --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
buildah commit --quiet --rm "$container" "$1" >/dev/null
