"""Writes SHA256SUMS and provenance.json for what `make package` has built: python images/provenance.py DIST.

The provenance is an in-toto statement with SLSA's predicate. It is not signed: it tells those who trust the place that they have
the files from which sources they were built of.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BUILT = ("*.whl", "*.tar.gz", "*.tgz")


def digest(path: Path) -> dict[str, str]:
    """SHA-256 of a file, as in-toto writes it."""
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def git(*arguments: str) -> str:
    """What git says of the checkout."""
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S607


def statement(files: list[Path]) -> dict[str, Any]:
    """What was built, from which commit and locked packages, by what."""
    changed = git("status", "--porcelain", "--untracked-files=no") != ""
    source = {"name": "source", "digest": {"gitCommit": git("rev-parse", "HEAD")}, "annotations": {"changed": changed}}
    locks = [{"name": f"images/locks/{path.name}", "digest": digest(path)} for path in sorted(ROOT.glob("images/locks/*.txt"))]
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": path.name, "digest": digest(path)} for path in files],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:visionr1-ptst:make-package:v1",
                "externalParameters": {"target": "package"},
                "resolvedDependencies": [source, *locks],
            },
            "runDetails": {"builder": {"id": f"urn:visionr1-ptst:checkout:python-{sys.version.split()[0]}"}},
        },
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    built = sorted(path for pattern in BUILT for path in folder.glob(pattern))
    (folder / "SHA256SUMS").write_text("".join(f"{digest(path)['sha256']}  {path.name}\n" for path in built))
    (folder / "provenance.json").write_text(json.dumps(statement(built), indent=1) + "\n")
