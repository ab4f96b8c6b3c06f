#!/usr/bin/env bash
# Runs a command with E2E_KUBECONFIG for a new kind cluster, and deletes the cluster at the end. On it are KubeRay and the
# training-operator, from the manifests that the other test cluster takes, and the operator of this checkout, which answers.
# Usage: kind.sh COMMAND...    Needs docker and kind, and the internet for images of others. build.sh must have run.
set -euo pipefail
cd "$(dirname "$0")/../.."
home=${XDG_CACHE_HOME:-$HOME/.cache}/visionr1-ptst/cluster
name=visionr1-test
docker info >/dev/null 2>&1 || { echo "kind needs docker and its daemon: start it, or leave KIND out" >&2; exit 1; }
BUILDER=docker images/build.sh operator
folder=$(mktemp -d)
export PATH=$home/bin:$PATH KUBECONFIG=$folder/kubeconfig E2E_KUBECONFIG=$folder/kubeconfig
trap 'kind delete cluster --name $name; rm -rf "$folder"' EXIT
kind create cluster --name $name --wait 180s
kind load docker-image "visionr1-ptst/operator:$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" --name $name
as_list='import json, sys; print(json.dumps({"apiVersion": "v1", "kind": "List", "items": json.load(sys.stdin)}))'
for project in training-operator kuberay; do
    .venv/bin/python -c "$as_list" \
        <"$home/manifests/$project.json" | kubectl apply --server-side -f -
done
kubectl -n kubeflow rollout status deploy/training-operator --timeout=300s
kubectl -n default rollout status deploy/kuberay-operator --timeout=300s
helm install visionr1-ptst charts/visionr1-ptst --namespace visionr1-kind --create-namespace --wait --timeout 3m \
    --set run.enabled=false --set claim.create=false --set claim.name=
helm test visionr1-ptst --namespace visionr1-kind
"$@"
