"""A PTSTRun as somebody writes it by hand."""

from __future__ import annotations

from typing import Any


def run(name: str = "run", **changes: Any) -> dict[str, Any]:
    """A run on S3, with these parts of its spec in place of those."""
    spec: dict[str, Any] = {
        "recipe": {"preset": "vision-r1"},
        "storage": {"url": "s3://bucket/run"},
        "pods": {"image": "trainer:1"},
        **changes,
    }
    return {"apiVersion": "visionr1.io/v1alpha1", "kind": "PTSTRun", "metadata": {"name": name}, "spec": spec}
