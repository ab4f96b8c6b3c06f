"""`visionr1 --version`: the commit of a checkout from git's own files, so that it is known without git, too.

With git in tests/e2e; of what `make package` builds in tests/package.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from visionr1.cli import app
from visionr1.version import PROJECT, RECORDED, commit, version_line

DIGITS = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40


def test_the_command_says_version_and_commit() -> None:
    reported = CliRunner().invoke(app, ["--version"])
    assert (reported.exit_code, reported.output) == (0, version_line() + "\n")
    assert version_line() == f"visionr1-ptst 0.1.0 ({commit(PROJECT)})"


def checkout(folder: Path, **files: str) -> Path:
    """A folder with these files of git, the slash in their names as two underscores."""
    for name, text in files.items():
        path = folder / ".git" / name.replace("__", "/").replace("_", "-")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    "files",
    [
        {"HEAD": f"{DIGITS}\n"},
        {"HEAD": "ref: refs/heads/main\n", "refs__heads__main": f"{DIGITS}\n", "packed_refs": f"{OTHER} refs/heads/main\n"},
        {"HEAD": "ref: refs/heads/main\n", "packed_refs": f"# packed\n{OTHER} refs/heads/x/main\n{DIGITS} refs/heads/main\n"},
    ],
    ids=["detached", "branch", "packed"],
)
def test_a_checkout_of_which_git_says_nothing(tmp_path: Path, files: dict[str, str]) -> None:
    assert commit(checkout(tmp_path, **files)) == f"{DIGITS[:7]}, changes unknown"


@pytest.mark.parametrize("relative", [False, True])
def test_a_worktree(tmp_path: Path, relative: bool) -> None:
    main = checkout(tmp_path / "main", HEAD="ref: refs/heads/main\n", refs__heads__main=OTHER, refs__heads__topic=f"{DIGITS}\n")
    own = checkout(main, worktrees__topic__HEAD="ref: refs/heads/topic\n", worktrees__topic__commondir="../..\n")
    worktree = tmp_path / "topic"
    worktree.mkdir()
    (worktree / ".git").write_text(f"gitdir: {'../main' if relative else own}/.git/worktrees/topic\n")
    assert commit(worktree) == f"{DIGITS[:7]}, changes unknown"


def test_what_a_build_recorded_counts(tmp_path: Path) -> None:
    (tmp_path / "visionr1").mkdir()
    (tmp_path / "visionr1" / RECORDED).write_text("abc1234-dirty\n")
    assert commit(checkout(tmp_path, HEAD=DIGITS)) == "abc1234-dirty"


@pytest.mark.parametrize("files", [{}, {"HEAD": "ref: refs/heads/born\n"}], ids=["no checkout", "no commit yet"])
def test_nothing_is_known(tmp_path: Path, files: dict[str, str]) -> None:
    assert commit(checkout(tmp_path, **files)) == "unknown"
