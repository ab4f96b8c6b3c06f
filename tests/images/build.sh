#!/usr/bin/env bash
# Builds images of this checkout with buildah, on a Debian base of its own making, into archives in the cache outside the checkout.
# Usage: build.sh NAME...    NAME as images/build.sh has it. The wheel must be in dist/ (make wheel).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${XDG_CACHE_HOME:-$HOME/.cache}/visionr1-ptst/images
base=localhost/visionr1-test/debian:bookworm
[ "$(id -u)" = 0 ] || { echo "images: building them here needs root; what runs on a real node is left out" >&2; exit 0; }
mkdir -p "$home"
"$here/base.sh" $base
flags=(--isolation chroot --network host --pull-never --quiet)
if [ -n "${SSL_CERT_FILE:-}" ]; then
    flags+=(--volume "$SSL_CERT_FILE:/run/ca.crt:ro" --build-arg SSL_CERT_FILE=/run/ca.crt)
fi
for name in PIP_INDEX_URL UV_DEFAULT_INDEX; do
    index=${!name:-${PIP_INDEX_URL:-}}
    [ -z "$index" ] || flags+=(--build-arg "$name=$index")
done
export REPOSITORY=localhost/visionr1-test TAG=checkout BASE=$base BUILDER=buildah BUILD_FLAGS="${flags[*]}"
"$here/../../images/build.sh" "$@" >"$home/build.log" 2>&1 || { tail -30 "$home/build.log" >&2; exit 1; }
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/../../pyproject.toml")
for name in "$@"; do
    rm -f "$home/$name.tar"
    case $name in
    operator) buildah push --quiet $REPOSITORY/operator:$TAG "docker-archive:$home/operator.tar:docker.io/visionr1-ptst/operator:$version" ;;
    trainer-*) ;; # run by buildah itself: its archive has seven gigabytes
    esac
done
