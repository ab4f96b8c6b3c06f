#!/usr/bin/env bash
# Builds the pinned binaries of the test cluster into a cache outside the checkout; nothing is built twice.
# Cold about 20 minutes on 2 quiet cores, seconds when it is all there. Needs Go 1.26 and a Go module proxy.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${XDG_CACHE_HOME:-$HOME/.cache}/visionr1-ptst/cluster
export PATH=$PATH:/usr/local/go/bin CGO_ENABLED=0 GOFLAGS=-buildvcs=false
mkdir -p "$home/bin"

missing() { # VERSION BINARY...: whether one of them is not there in this version
    local version=$1 name
    shift
    for name; do [ "$(cat "$home/bin/$name.version" 2>/dev/null)" = "$version" ] || return 0; done
    return 1
}

wrapped() { # MODULE VERSION LDFLAGS PACKAGE...: from a wrapper module of ours, whose go.sum pins every source
    local module=$1 version=$2 flags=$3 package name names=()
    shift 3
    for package; do name=${package##*/}; names+=("${name/#v3/etcd}"); done
    missing "$version" "${names[@]}" || return 0
    echo "building ${names[*]} $version"
    if [ "$module" = etcd ]; then
        (cd "$here/go/etcd" && go build -ldflags "-s -w $flags" -o "$home/bin/etcd" "$@")
    else
        (cd "$here/go/$module" && go build -ldflags "-s -w $flags" -o "$home/bin/" "$@")
    fi
    for name in "${names[@]}"; do echo "$version" >"$home/bin/$name.version"; done
}

installed() { # NAME PACKAGE VERSION: a module that builds as it is; the checksum database vouches for it
    missing "$3" "$1" || return 0
    echo "building $1 $3"
    GOBIN=$home/bin go install -ldflags "-s -w" "$2@$3"
    [ "${2##*/}" = "$1" ] || mv "$home/bin/${2##*/}" "$home/bin/$1"
    echo "$3" >"$home/bin/$1.version"
}

version=k8s.io/component-base/version
wrapped etcd v3.6.16 "" go.etcd.io/etcd/server/v3
wrapped k8s v1.35.4 "-X $version.gitVersion=v1.35.4 -X $version.gitMajor=1 -X $version.gitMinor=35 -X $version.gitTreeState=clean" \
    k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubectl}
installed kwok sigs.k8s.io/kwok/cmd/kwok v0.8.0
installed helm helm.sh/helm/v4/cmd/helm v4.3.1
installed training-operator github.com/kubeflow/training-operator/cmd/training-operator.v1 v1.9.4
wrapped kuberay v1.6.1 "" github.com/ray-project/kuberay/ray-operator

# The operators' own manifests, as their authors render them.
mkdir -p "$home/manifests"
modules=$(go env GOMODCACHE)
[ -s "$home/manifests/training-operator.yaml" ] ||
    "$home/bin/kubectl" kustomize "$modules/github.com/kubeflow/training-operator@v1.9.4/manifests/overlays/standalone" \
        >"$home/manifests/training-operator.yaml"
[ -s "$home/manifests/kuberay.yaml" ] ||
    "$home/bin/kubectl" kustomize "$modules/github.com/ray-project/kuberay/ray-operator@v1.6.1/config/default" \
        >"$home/manifests/kuberay.yaml"
