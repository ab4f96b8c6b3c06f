"""What `visionr1 --version` says of a checkout, with git there to ask."""

import subprocess
from pathlib import Path

from visionr1.version import commit


def git(folder: Path, *words: str) -> str:
    whoever = ("-c", "user.name=visitor", "-c", "user.email=visitor@example.org")
    done = subprocess.run(["git", "-C", str(folder), *whoever, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_clean_and_a_changed_checkout_and_a_worktree(tmp_path: Path) -> None:
    main = tmp_path / "main"
    main.mkdir()
    git(main, "init", "--quiet")
    (main / "file").write_text("as committed")
    git(main, "add", "file")
    git(main, "commit", "--quiet", "--message", "first")
    digits = git(main, "rev-parse", "HEAD")[:7]
    assert commit(main) == digits
    git(main, "pack-refs", "--all")
    git(main, "worktree", "add", "--quiet", str(tmp_path / "other"))
    assert commit(tmp_path / "other") == digits
    (main / "file").write_text("changed")
    (tmp_path / "other" / "new").write_text("not of the commit")
    assert (commit(main), commit(tmp_path / "other")) == (f"{digits}-dirty", digits)
