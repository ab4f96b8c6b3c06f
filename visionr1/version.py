"""Which version of this project runs, and of which commit it is. Uses only Python, because the build reads it, too."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parents[1]
RECORDED: Final = "commit.txt"
"""Beside this file in a wheel or an sdist: the commit that it was built from."""
_PACKED: Final = ("visionr1/", "operators/")


def version_line() -> str:
    """Such as `visionr1-ptst 0.1.0 (abc1234)`."""
    return f"visionr1-ptst {version('visionr1-ptst')} ({commit(PROJECT)})"


def commit(project: Path) -> str:
    """Seven digits of the commit that the files in `project` are of: as its build recorded it, else as its checkout says.

    `-dirty` behind them says that files differ from it, `, changes unknown` that git is not there to ask whether they do.
    `unknown` alone means that there is no record and no checkout.
    """
    recorded = project / "visionr1" / RECORDED
    if recorded.exists():
        return recorded.read_text().strip()
    head = _head(project / ".git")
    return "unknown" if head is None else f"{head[:7]}{_changes(project)}"


def _changes(project: Path) -> str:
    command = ["git", f"--git-dir={project / '.git'}", f"--work-tree={project}", "--no-optional-locks"]
    try:
        done = subprocess.run([*command, "status", "--porcelain", "--untracked-files=normal"], capture_output=True, text=True)
    except FileNotFoundError:
        return ", changes unknown"
    if done.returncode:
        return ", changes unknown"
    # A file beside the packages changes nothing, and one in them is imported, and packed, as if it were committed.
    changed = [line for line in done.stdout.splitlines() if not line.startswith("??") or line[3:].startswith(_PACKED)]
    return "-dirty" if changed else ""


def _head(git: Path) -> str | None:
    """The commit that is checked out, from git's own files: `git` is the folder, or the file that a worktree has in its place."""
    if git.is_file():
        git = git.parent / git.read_text().removeprefix("gitdir:").strip()
    if not (git / "HEAD").exists():
        return None
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return head
    name = head.removeprefix("ref: ")
    shared = git / "commondir"
    common = git / shared.read_text().strip() if shared.exists() else git
    if (common / name).exists():
        return (common / name).read_text().strip()
    packed = (common / "packed-refs").read_text().splitlines() if (common / "packed-refs").exists() else []
    return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)
