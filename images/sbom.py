"""Writes the contents of an image as CycloneDX 1.6: Python packages of the environment, packages of Debian."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import distributions
from typing import Any


def python_packages() -> list[dict[str, Any]]:
    """One component for each installed distribution."""
    found = {(one.name.lower(), one.version): one for one in distributions()}
    return [component("pypi", name, version) for name, version in sorted(found)]


def debian_packages() -> list[dict[str, Any]]:
    """One component for each package of Debian in the image."""
    listed = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${Version}\n"],  # noqa: S607 - the image's own
        capture_output=True,
        text=True,
        check=True,
    )
    return [component("deb/debian", *line.split(" ", 1)) for line in listed.stdout.splitlines()]


def component(kind: str, name: str, version: str) -> dict[str, Any]:
    """A library with its package URL."""
    return {"type": "library", "name": name, "version": version, "purl": f"pkg:{kind}/{name}@{version}"}


if __name__ == "__main__":
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": [*python_packages(), *debian_packages()],
    }
    json.dump(bom, sys.stdout, indent=1)
