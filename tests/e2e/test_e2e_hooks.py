"""What `make hooks` installs refuses a bad file when it is committed, in a repository of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from documents import ROOT

CONFIG = ".pre-commit-config.yaml"
GOOD = '"""A value."""\n\nVALUE = 1\n'
MARKERS = f"before\n{'<' * 7} HEAD\nmine\n{'=' * 7}\nyours\n{'>' * 7} branch\n"


def run(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    alone = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "PRE_COMMIT_HOME": str(folder.parent / "pre-commit"),
    }
    return subprocess.run([str(word) for word in words], cwd=folder, env=alone, capture_output=True, text=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """With the hooks, this project's rules and its programs, and one commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for name in (CONFIG, "pyproject.toml", ".gitignore", "Makefile"):
        shutil.copy(ROOT / name, folder)
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs/words.txt", folder / "docs")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    (folder / ".git/info").mkdir(parents=True)
    (folder / ".git/info/exclude").write_text(".venv\n")
    for words in (("init", "--quiet"), ("config", "user.name", "reader"), ("config", "user.email", "reader@example.org")):
        assert run(folder, "git", *words).returncode == 0
    installed = run(folder, ".venv/bin/pre-commit", "install")
    assert installed.returncode == 0, installed.stderr
    (folder / "good.py").write_text(GOOD)
    run(folder, "git", "add", "--all")
    committed = run(folder, "git", "commit", "--message", "first")
    assert committed.returncode == 0, committed.stderr
    return folder


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("unused.py", "import os\n", "F401"),
        ("format.py", "VALUE = {'a':1}\n", "1 file reformatted"),
        ("words.md", "It is made anew.\n", "anew ==> again"),  # codespell:ignore
        ("spelling.md", "It is recieved.\n", "recieved ==> received"),  # codespell:ignore
        ("merged.md", MARKERS, "Merge conflict string"),
        ("large.bin", "0" * 600_000, "large.bin (586 KB) exceeds 500 KB"),
    ],
)
def test_a_bad_file_is_refused_when_it_is_committed(repository: Path, name: str, text: str, message: str) -> None:
    (repository / name).write_text(text)
    run(repository, "git", "add", name)
    refused = run(repository, "git", "commit", "--message", "bad")
    assert refused.returncode == 1
    assert message in refused.stdout + refused.stderr
    assert run(repository, "git", "log", "--format=%s").stdout == "first\n"


def test_the_hooks_are_programs_of_the_environment_and_fetch_nothing() -> None:
    repositories = yaml.safe_load((ROOT / CONFIG).read_text())["repos"]
    assert [found["repo"] for found in repositories] == ["local"]
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in repositories[0]["hooks"])


def test_make_hooks_installs_them() -> None:
    made = run(ROOT, "make", "--dry-run", "hooks")
    assert made.returncode == 0, made.stderr
    assert ".venv/bin/pre-commit install" in made.stdout
