"""Hatchling's hook: wheel and sdist record the commit that they are built from. `visionr1 --version` shows it."""

from __future__ import annotations

import runpy
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class RecordCommit(BuildHookInterface[Any]):
    """An editable install has its checkout to ask, and an sdist its record, which a wheel takes from there with the package."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        project = Path(self.root)
        known = runpy.run_path(str(project / "visionr1/version.py"))
        if version == "editable" or (project / "visionr1" / known["RECORDED"]).exists():
            return
        self._folder = tempfile.TemporaryDirectory()
        record = Path(self._folder.name) / known["RECORDED"]
        record.write_text(known["commit"](project) + "\n")
        build_data["force_include"][str(record)] = f"visionr1/{record.name}"
