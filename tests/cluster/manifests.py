"""From YAML manifests on stdin to a JSON list on stdout, with the definitions of what the tests have only."""

from __future__ import annotations

import json
import sys
from typing import Any

import yaml

KEPT = {"rayclusters.ray.io", "rayjobs.ray.io", "rayservices.ray.io", "raycronjobs.ray.io", "pytorchjobs.kubeflow.org"}



def kept(manifest: dict[str, Any]) -> bool:
    """Whether it is a definition that is used, or anything else; Kueue wants all of its own."""
    name: str = manifest["metadata"]["name"]
    return manifest["kind"] != "CustomResourceDefinition" or name in KEPT or name.endswith(".kueue.x-k8s.io")


json.dump([one for one in yaml.load_all(sys.stdin, yaml.CSafeLoader) if one and kept(one)], sys.stdout)
