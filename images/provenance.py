"""Writes bom.json, provenance.json and SHA256SUMS for what `package.sh` has built: python images/provenance.py DIST COMMIT.

The bill of materials is CycloneDX 1.6, made from the locks. The provenance is an in-toto statement with SLSA's predicate. The
checksums are of all files, so a signature of the checksums is one of all of them.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
BUILT: Final = ("*.whl", "*.tar.gz", "*.tgz")
LOCKS: Final = tuple(sorted(path for path in ROOT.glob("images/locks/*.txt") if not path.stem.endswith("-overrides")))
_PINNED: Final = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;\\]+)", re.MULTILINE)


def digest(path: Path) -> dict[str, str]:
    """SHA-256 of a file, as in-toto writes it."""
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def pinned(lock: Path) -> set[tuple[str, str]]:
    """Names, in the spelling of indexes, and versions of the packages in a lock."""
    return {
        (re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in _PINNED.findall(lock.read_text(encoding="utf-8"))
    }


def bill(locks: tuple[Path, ...]) -> dict[str, Any]:
    """All locked packages, each with the locks that it is in."""
    places: dict[tuple[str, str], list[str]] = {}
    for lock in locks:
        for package in pinned(lock):
            places.setdefault(package, []).append(lock.name)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": [
            {
                "type": "library",
                "name": name,
                "version": version,
                "purl": f"pkg:pypi/{name}@{version}",
                "properties": [{"name": "lock", "value": value} for value in found],
            }
            for (name, version), found in sorted(places.items())
        ],
    }


def statement(files: list[Path], commit: str) -> dict[str, Any]:
    """What was built, from which commit and locked packages, by what."""
    locks = [{"name": f"images/locks/{path.name}", "digest": digest(path)} for path in LOCKS]
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": path.name, "digest": digest(path)} for path in files],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:visionr1-ptst:make-package:v2",
                "externalParameters": {"target": "package"},
                "resolvedDependencies": [{"name": "source", "digest": {"gitCommit": commit}}, *locks],
            },
            "runDetails": {"builder": {"id": f"urn:visionr1-ptst:checkout:python-{sys.version.split()[0]}"}},
        },
    }


def main(folder: Path, commit: str) -> None:
    """Writes the three files."""
    built = sorted(path for pattern in BUILT for path in folder.glob(pattern))
    about = [folder / "bom.json", folder / "provenance.json"]
    for path, content in zip(about, (bill(LOCKS), statement(built, commit)), strict=True):
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    sums = "".join(f"{digest(path)['sha256']}  {path.name}\n" for path in [*built, *about])
    (folder / "SHA256SUMS").write_text(sums, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
