#!/usr/bin/env bash
# Builds the pinned binaries of the test cluster into a cache outside the checkout; nothing is built twice.
# Cold about 20 minutes on 2 quiet cores, no time when it is all there. Needs Go 1.26 and a Go module proxy.
# Usage: build.sh [soak]    soak: also what the long tests need, 15 minutes more.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${XDG_CACHE_HOME:-$HOME/.cache}/visionr1-ptst/cluster
export PATH=$PATH:/usr/local/go/bin CGO_ENABLED=0 GOFLAGS=-buildvcs=false
mkdir -p "$home/bin"

build() { # MODULE VERSION LDFLAGS PACKAGE...: from a module in go/, whose go.sum pins every source
    local module=$1 version flags=$3
    version="$2 $(cat "$here/go/$module"/* | cksum)"
    shift 3
    [ "$(cat "$home/bin/$module.version" 2>/dev/null)" != "$version" ] || return 0
    echo "building the test cluster's binaries: $module ($version)"
    (cd "$here/go/$module" && go build -ldflags "-s -w $flags" -o "$home/bin/" "$@")
    echo "$version" >"$home/bin/$module.version"
}

installed() { # NAME PACKAGE VERSION [COMMAND]: a module that builds as it is; the checksum database vouches for it
    [ "$(cat "$home/bin/$1.version" 2>/dev/null)" != "$3" ] || return 0
    echo "building the test cluster's binaries: $1 ($3)"
    GOBIN=$home/bin/.new go install -ldflags "-s -w" "$2@$3"
    mv "$home/bin/.new/$(basename "$2")" "$home/bin/${4:-$(basename "$2")}"
    echo "$3" >"$home/bin/$1.version"
}

build etcd v3.6.16 "" go.etcd.io/etcd/server/v3
[ ! -e "$home/bin/server" ] || mv "$home/bin/server" "$home/bin/etcd" # Go names it after the last part of its path
v=k8s.io/component-base/version
build k8s v1.35.4 "-X $v.gitVersion=v1.35.4 -X $v.gitMajor=1 -X $v.gitMinor=35 -X $v.gitTreeState=clean" \
    k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubectl,kubelet,kube-proxy}
installed kwok sigs.k8s.io/kwok/cmd/kwok v0.8.0
installed helm helm.sh/helm/v4/cmd/helm v4.3.1
installed registry github.com/distribution/distribution/v3/cmd/registry v3.1.2
build coredns v1.14.7 "" .
[ ! -e "$home/bin/corednsbuild" ] || mv "$home/bin/corednsbuild" "$home/bin/coredns"
build pause 1 "" .
build kuberay v1.6.1 "" github.com/ray-project/kuberay/ray-operator
installed training-operator github.com/kubeflow/training-operator/cmd/training-operator.v1 v1.9.4

rendered() { # NAME COMMAND...: manifests as their project ships them, without definitions that the tests have no use for
    local name=$1 inputs
    shift
    inputs="$* $(cksum <"$here/manifests.py")"
    [ "$(cat "$home/manifests/$name.inputs" 2>/dev/null)" != "$inputs" ] || return 0
    mkdir -p "$home/manifests"
    "$home/bin/$1" "${@:2}" | "$here/../../.venv/bin/python" "$here/manifests.py" >"$home/manifests/.$name"
    mv "$home/manifests/.$name" "$home/manifests/$name.json"
    echo "$inputs" >"$home/manifests/$name.inputs"
}

modules=$(go env GOMODCACHE)
rendered kuberay kubectl kustomize "$modules/github.com/ray-project/kuberay/ray-operator@v1.6.1/config/default"
rendered training-operator kubectl kustomize "$modules/github.com/kubeflow/training-operator@v1.9.4/manifests/overlays/standalone"
(cd "$here/go/kueue" && go mod download sigs.k8s.io/kueue) # the documents name its kinds
rendered kueue kubectl kustomize "$modules/sigs.k8s.io/kueue@v0.15.0/config/default"

[ "${1:-}" = soak ] || exit 0
installed kube-router github.com/cloudnativelabs/kube-router/v2/cmd/kube-router v2.1.0
installed helm3 helm.sh/helm/v3/cmd/helm v3.22.0 helm3
build jobset v0.12.0 "" sigs.k8s.io/jobset
build trainer v2.3.0 "" github.com/kubeflow/trainer/v2/cmd/trainer-controller-manager
rendered jobset kubectl kustomize "$modules/sigs.k8s.io/jobset@v0.12.0/config/default"
# As a comment in it says, a cluster with JobSet has no use for the line that would fetch it.
manifests=$home/manifests/trainer-v2.3.0
cp -rT --no-preserve=mode "$modules/github.com/kubeflow/trainer/v2@v2.3.0/manifests" "$manifests"
sed -i '\,third-party/jobset,d' "$manifests/overlays/manager/kustomization.yaml"
rendered trainer kubectl kustomize "$manifests/overlays/manager"
build kueue v0.15.0 "" sigs.k8s.io/kueue/cmd/kueue

schedulers() { # NAME VERSION PACKAGE...: a scheduler's programs, with its name before theirs
    local name=$1 version=$2 one
    shift 2
    build "$name" "$version" "" "$@"
    for one in "${@##*/}"; do
        [ ! -e "$home/bin/$one" ] || mv "$home/bin/$one" "$home/bin/$name-$one"
    done
}

schedulers volcano v1.15.0 volcano.sh/volcano/cmd/{scheduler,controller-manager}
schedulers kai v0.17.0 github.com/kai-scheduler/KAI-scheduler/cmd/{scheduler,binder,podgrouper}
rendered volcano helm template volcano "$modules/volcano.sh/volcano@v1.15.0/installer/helm/chart/volcano" --namespace volcano-system --include-crds --no-hooks \
    --set custom.admission_enable=false
rendered kai helm template kai "$modules/github.com/kai-scheduler/!k!a!i-scheduler@v0.17.0/deployments/kai-scheduler" --namespace kai-scheduler --include-crds --no-hooks
