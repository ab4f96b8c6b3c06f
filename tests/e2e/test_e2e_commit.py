"""The commit of a checkout says whether something in the package is not committed, by git."""

from __future__ import annotations

import subprocess
from pathlib import Path

from visionr1.version import commit


def test_a_file_in_the_package_that_is_not_committed_is_a_change(tmp_path: Path) -> None:
    (tmp_path / "visionr1").mkdir()
    (tmp_path / "visionr1/a.py").touch()
    git = ("git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org")
    for words in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "-m", "x")):
        subprocess.run([*git, *words], check=True)
    (tmp_path / "notes.txt").touch()
    clean = commit(tmp_path)
    assert len(clean) == 7
    (tmp_path / "visionr1/planted.py").touch()
    assert commit(tmp_path) == f"{clean}-dirty"
