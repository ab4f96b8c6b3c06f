"""Compares the locked packages with known vulnerabilities, without a network.

    python images/vulnerabilities.py                 compares; 1 if a locked version is affected
    python images/vulnerabilities.py ADVISORIES      first makes the list from a checkout of github.com/pypa/advisory-database

The list has the advisories on the packages of the locks. Each release renews it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import yaml
from packaging.version import InvalidVersion, Version
from provenance import LOCKS, ROOT, pinned

LIST: Final = ROOT / "images/vulnerabilities.json"
ACCEPTED: Final[dict[str, str]] = {}
"""Why a locked version stays although an advisory is on it, by the advisory's id."""


def made_from(checkout: Path, names: set[str]) -> dict[str, Any]:
    """The list: the advisories on these packages, and where they come from."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(checkout), *words], capture_output=True, text=True, check=True).stdout  # noqa: S607

    found: dict[str, list[dict[str, Any]]] = {}
    for path in git("ls-tree", "-r", "--name-only", "HEAD", "vulns/").split():
        name = path.split("/")[1]
        if name in names:
            advisory = yaml.safe_load(git("show", f"HEAD:{path}"))
            entries = [one for one in advisory.get("affected", []) if one["package"]["name"].lower().replace("_", "-") == name]
            if entries and "withdrawn" not in advisory:
                found.setdefault(name, []).append(_entry(advisory, entries))
    commit, date = git("log", "-1", "--format=%H %cs").split()
    source = {"name": "PyPA advisory database (CC-BY-4.0)", "commit": commit, "date": date}
    return {"source": source, "packages": {name: found[name] for name in sorted(found)}}


def _entry(advisory: dict[str, Any], affected: list[dict[str, Any]]) -> dict[str, Any]:
    ranges = [one["events"] for entry in affected for one in entry.get("ranges", []) if one["type"] == "ECOSYSTEM"]
    named = [] if ranges else sorted({version for entry in affected for version in entry.get("versions", [])})
    return {"id": advisory["id"], "aliases": advisory.get("aliases", []), "ranges": ranges, "versions": named}


def is_affected(version: str, advisory: dict[str, Any]) -> bool:
    """Whether an advisory is on this version, as https://ossf.github.io/osv-schema/#evaluation says."""
    this = Version(version)
    if any(_parsed(one) == this for one in advisory["versions"]):
        return True
    return any(_in_range(this, events) for events in advisory["ranges"])


def _in_range(version: Version, events: list[dict[str, str]]) -> bool:
    inside = False
    for event in sorted(events, key=lambda one: (_parsed(next(iter(one.values()))), "introduced" not in one)):
        ((kind, at),) = event.items()
        if kind == "introduced" and version >= _parsed(at):
            inside = True
        elif (kind == "fixed" and version >= _parsed(at)) or (kind == "last_affected" and version > _parsed(at)):
            inside = False
    return inside


def _parsed(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:  # a few old advisories name versions of before PEP 440
        return Version("0")


def findings(known: dict[str, Any], locks: tuple[Path, ...]) -> list[str]:
    """A line for each locked package that an advisory is on."""
    return [
        f"{lock.name}: {name} {version} has {advisory['id']} ({', '.join(advisory['aliases']) or 'no other name'})"
        for lock in locks
        for name, version in sorted(pinned(lock))
        for advisory in known["packages"].get(name, [])
        if is_affected(version, advisory) and advisory["id"] not in ACCEPTED
    ]


def main(arguments: list[str]) -> int:
    """Exit code of the program."""
    names = {name for lock in LOCKS for name, _ in pinned(lock)}
    if arguments:
        LIST.write_text(json.dumps(made_from(Path(arguments[0]), names), indent=1) + "\n", encoding="utf-8")
    known = json.loads(LIST.read_text(encoding="utf-8"))
    advisories = sum(map(len, known["packages"].values()))
    lines = findings(known, LOCKS)
    for line in lines:
        print(f"{line}; take a newer version, or say in images/vulnerabilities.py why it may stay", file=sys.stderr)
    source = known["source"]
    print(f"{len(names)} packages, {advisories} advisories of {source['date']} ({source['name']}): {len(lines)} found")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
