"""From YAML manifests on stdin to a JSON list on stdout, with those definitions only that the tests have a use for."""

from __future__ import annotations

import json
import sys

import yaml

KEPT = {"rayclusters.ray.io", "rayjobs.ray.io", "rayservices.ray.io", "raycronjobs.ray.io", "pytorchjobs.kubeflow.org"}
KEPT |= {f"{kind}.trainer.kubeflow.org" for kind in ("trainjobs", "trainingruntimes", "clustertrainingruntimes")}
KEPT |= {"jobsets.jobset.x-k8s.io"}
KUEUE = "admissionchecks clusterqueues cohorts localqueues multikueueclusters multikueueconfigs provisioningrequestconfigs"
KUEUE += " resourceflavors topologies workloadpriorityclasses workloads"
KEPT |= {f"{kind}.kueue.x-k8s.io" for kind in KUEUE.split()}

manifests = [one for one in yaml.load_all(sys.stdin, yaml.CSafeLoader) if one]
json.dump([one for one in manifests if one["kind"] != "CustomResourceDefinition" or one["metadata"]["name"] in KEPT], sys.stdout)
