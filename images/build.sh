#!/usr/bin/env bash
# Builds images with docker, podman or buildah, whichever is there, and prints their sizes.
# Usage: build.sh NAME...    NAME: operator, trainer-cuda, trainer-cpu.
# Environment: BUILDER (one of the three), TAG (default: the project's version), REPOSITORY (default visionr1-ptst), BASE (the Debian
# image to build on, best with its digest), BUILD_FLAGS (more flags of the builder).
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
revision=$(git rev-parse HEAD 2>/dev/null) && labels+=(--label "$label.revision=$revision")
read -ra more <<<"${BUILD_FLAGS:-}"
[ -z "${BASE:-}" ] || more+=(--build-arg "BASE=$BASE")
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
