#!/usr/bin/env bash
# Builds images of this checkout with buildah, on a Debian base of its own making, in buildah's store; the operator's into an archive
# in the cache outside the checkout, too, for the real node. Packages come from uv's cache, which `make .venv` has filled.
# Usage: build.sh NAME...    NAME as images/build.sh has it. The wheel must be in dist/ (make wheel).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${XDG_CACHE_HOME:-$HOME/.cache}/visionr1-ptst/images
base=localhost/visionr1-test/debian:bookworm
[ "$(id -u)" = 0 ] || { echo "images: building them here needs root; what runs on a real node is left out" >&2; exit 0; }
mkdir -p "$home"
"$here/base.sh" $base
environment=$(mktemp)
trap 'rm -f "$environment"' EXIT
packages=$("$here/../../.venv/bin/uv" cache dir)
flags=(--isolation chroot --network host --pull-never --quiet --secret "id=environment,src=$environment" --volume "$packages:/run/uv")
echo "unset UV_NO_CACHE; export UV_CACHE_DIR=/run/uv UV_LINK_MODE=copy" >"$environment"
if [ -n "${SSL_CERT_FILE:-}" ]; then
    flags+=(--volume "$SSL_CERT_FILE:/run/ca.crt:ro")
    echo "export SSL_CERT_FILE=/run/ca.crt" >>"$environment"
fi
for name in UV_DEFAULT_INDEX UV_INDEX UV_INDEX_STRATEGY; do
    [ -z "${!name:-}" ] || printf 'export %s=%q\n' $name "${!name}" >>"$environment"
done
export REPOSITORY=${REPOSITORY:-localhost/visionr1-test} TAG=checkout BASE=$base BUILDER=buildah BUILD_FLAGS="${flags[*]}"
"$here/../../images/build.sh" "$@" >"$home/build.log" 2>&1 || { tail -30 "$home/build.log" >&2; exit 1; }
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/../../pyproject.toml")
for name in "$@"; do
    # A trainer has gigabytes, and nobody reads its archive: what runs it mounts it.
    [ "$name" = operator ] || continue
    rm -f "$home/operator.tar"
    buildah push --quiet "$REPOSITORY/operator:$TAG" "docker-archive:$home/operator.tar:docker.io/visionr1-ptst/operator:$version"
done
