"""What Helm makes of the chart's values. Needs no cluster, but its helm."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml
from control_plane import tool

CHART = Path(__file__).parents[2] / "charts/visionr1-ptst"
Values = dict[str, Any]
Manifest = dict[str, Any]


class _OneOfEach(yaml.SafeLoader):
    """A key that is twice in one mapping is a mistake, which PyYAML would hide."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"twice in one mapping: {keys}"
        return super().construct_mapping(node, deep)


def _template(values: Values, release: str, namespace: str, chart: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [tool("helm"), "template", release, str(chart), "--namespace", namespace, "--values", "-", *more]
    environment = {**os.environ, "HOME": "/nowhere"}
    return subprocess.run(command, input=yaml.safe_dump(values), capture_output=True, text=True, env=environment)


def manifests(
    values: Values | None = None, *more: str, release: str = "ptst", namespace: str = "vision", chart: Path = CHART
) -> list[Manifest]:
    """Everything that a release with these values has."""
    done = _template(values or {}, release, namespace, chart, *more)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.load_all(done.stdout, _OneOfEach) if one]


def the(made: list[Manifest], kind: str, name: str = "") -> Manifest:
    """The only object of a kind, or the one whose name ends like this."""
    found = [one for one in made if one["kind"] == kind and one["metadata"]["name"].endswith(name)]
    assert len(found) == 1, [one["metadata"]["name"] for one in found]
    return found[0]


def refusal(values: Values, *more: str) -> str:
    """The line with which Helm refuses these values."""
    done = _template(values, "ptst", "vision", CHART, *more)
    assert done.returncode != 0, "it renders"
    (line,) = [one for one in done.stderr.splitlines() if one and not one.startswith("Use --debug")]
    return line


def pod_templates(made: list[Manifest]) -> dict[str, Manifest]:
    """Metadata and spec of every pod that the chart itself makes, by kind and name."""
    found = {}
    for one in made:
        spec = one if one["kind"] == "Pod" else one.get("spec", {}).get("template")
        if one["kind"] in ("Pod", "Deployment", "Job"):
            found[f"{one['kind']} {one['metadata']['name']}"] = spec
    return found
