#!/usr/bin/env bash
# Builds images with docker, podman or buildah, whichever is there, and prints their sizes.
# Usage: build.sh NAME...    NAME: operator, trainer-cuda, trainer-cpu.
# Environment: BUILDER (one of the three), TAG (default: the project's version), REPOSITORY (default visionr1-ptst), BASE (the Debian
# image to build on; its digest is in the labels), BUILD_FLAGS (more flags of the builder).
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
for builder in ${BUILDER:-docker podman buildah} none; do
    # A docker command without its daemon builds nothing.
    $builder info >/dev/null 2>&1 && break
done
[ $builder != none ] || { echo "building images needs docker, podman or buildah: install one, or start its daemon" >&2; exit 1; }
label=org.opencontainers.image
labels=(--label "$label.version=$version" --label "$label.created=$(date --utc +%FT%TZ)")
# A checkout has a revision, an sdist has none.
revision=$(git rev-parse HEAD 2>/dev/null) && labels+=(--label "$label.revision=$revision$([ -z "$(git status --porcelain)" ] || echo -dirty)")
read -ra more <<<"${BUILD_FLAGS:-}"
# A tag may be another image tomorrow: all images of one build are made on one digest, and their labels name it.
base=${BASE:-docker.io/library/debian:bookworm-slim}
digest() { # of the base image, as the builder has it
    if [ $builder = buildah ]; then
        buildah inspect --type image --format '{{.FromImageDigest}}' "$base"
    else
        $builder image inspect --format '{{if .RepoDigests}}{{index .RepoDigests 0}}{{end}}' "$base"
    fi 2>/dev/null | sed 's/.*@//'
}
if [ $# -gt 0 ]; then
    case $base in
    localhost/*) ;; # made on this machine, so no registry has it
    *) $builder pull --quiet "$base" >/dev/null ;;
    esac
    found=$(digest)
    [ -n "$found" ] || { echo "$base: the builder does not know its digest: name it as IMAGE@sha256:..." >&2; exit 1; }
    labels+=(--label "$label.base.name=$base" --label "$label.base.digest=$found")
    case $base in
    localhost/* | *@*) ;;
    *) base=$(sed 's/:[^:/]*$//' <<<"$base")@$found ;;
    esac
    more+=(--build-arg "BASE=$base")
fi
# Docker's format keeps what OCI's has no word for.
[ $builder = docker ] || more+=(--format docker --layers)
for name in "$@"; do
    args=()
    case $name in
    operator) folder=operator image=operator:${TAG:-$version} ;;
    trainer-cuda) folder=trainer image=trainer:${TAG:-$version} args=(--build-arg FLAVOUR=cuda) ;;
    trainer-cpu) folder=trainer image=trainer:${TAG:-$version}-cpu args=(--build-arg FLAVOUR=cpu) ;;
    *) echo "$name: no such image; operator, trainer-cuda and trainer-cpu are" >&2; exit 64 ;;
    esac
    image=${REPOSITORY:-visionr1-ptst}/$image
    echo "building $image with $builder"
    $builder build "${labels[@]}" "${more[@]}" "${args[@]}" --tag "$image" --file "images/$folder/Dockerfile" .
    $builder images "$image"
done
