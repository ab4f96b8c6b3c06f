"""From YAML manifests on stdin to a JSON list on stdout, with those definitions only that the tests have a use for."""

from __future__ import annotations

import json
import sys
from typing import Any

import yaml

KEPT = {"rayclusters.ray.io", "rayjobs.ray.io", "rayservices.ray.io", "raycronjobs.ray.io", "pytorchjobs.kubeflow.org"}
KEPT |= {f"{kind}.trainer.kubeflow.org" for kind in ("trainjobs", "trainingruntimes", "clustertrainingruntimes")}
KEPT |= {"jobsets.jobset.x-k8s.io"}
KUEUE = "admissionchecks clusterqueues cohorts localqueues multikueueclusters multikueueconfigs provisioningrequestconfigs"
KUEUE += " resourceflavors topologies workloadpriorityclasses workloads"
KEPT |= {f"{kind}.kueue.x-k8s.io" for kind in KUEUE.split()}
SCHEDULERS = (".volcano.sh", ".kai.scheduler", ".run.ai")
"""The last parts of their names: all of Volcano's and KAI's."""

manifests = [one for one in yaml.load_all(sys.stdin, yaml.CSafeLoader) if one]


def is_kept(manifest: dict[str, Any]) -> bool:
    name = manifest["metadata"]["name"]
    return manifest["kind"] != "CustomResourceDefinition" or name in KEPT or name.endswith(SCHEDULERS)


json.dump([one for one in manifests if is_kept(one)], sys.stdout)
