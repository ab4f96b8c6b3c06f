"""What is built is of a commit and nothing else, and is signed as a whole, by git and OpenSSH."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest
from documents import ROOT, fences
from provenance import main
from vulnerabilities import made_from

SIGNER = "releases@example.org"
SPACE = "visionr1-ptst"


def run(*words: str | Path, cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(word) for word in words], cwd=cwd, input=stdin, capture_output=True)


def done(*words: str | Path, cwd: Path) -> str:
    ended = run(*words, cwd=cwd)
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout.decode()


def test_a_wheel_has_what_is_committed_and_nothing_else(tmp_path: Path) -> None:
    clone, dist = tmp_path / "clone", tmp_path / "dist"
    done("git", "clone", "--quiet", "--shared", ROOT, clone, cwd=tmp_path)
    (clone / ".venv").symlink_to(ROOT / ".venv")
    (clone / "images/package.sh").write_bytes((ROOT / "images/package.sh").read_bytes())
    (clone / "visionr1/planted.py").write_text("print('not committed')\n")
    changed = clone / "visionr1/errors.py"
    committed = changed.read_text()
    changed.write_text(f"{committed}\nPLANTED = 1\n")
    ended = run("bash", "images/package.sh", dist, "wheel", cwd=clone)
    assert ended.returncode == 0, ended.stderr.decode()
    commit = done("git", "rev-parse", "HEAD", cwd=clone)[:7]
    assert f"note: built from commit {commit}; what is not committed is not in it" in ended.stderr.decode()
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if "planted" in name]
        assert archive.read("visionr1/errors.py").decode() == committed
        assert archive.read("visionr1/commit.txt").decode().strip() == commit


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as `make package SIGN_KEY=...` leaves them, and the public key of their signer."""
    dist = tmp_path_factory.mktemp("dist")
    (dist / "visionr1_ptst-0.1.0-py3-none-any.whl").write_bytes(b"a wheel")
    (dist / "visionr1_ptst-0.1.0.tar.gz").write_bytes(b"an sdist")
    main(dist, "0" * 40)
    done("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", SIGNER, "-f", dist / "key", cwd=dist)
    done("ssh-keygen", "-q", "-Y", "sign", "-f", dist / "key", "-n", SPACE, dist / "SHA256SUMS", cwd=dist)
    (dist / "allowed_signers").write_text(f"{SIGNER} {(dist / 'key.pub').read_text()}")
    return dist


def documented() -> str:
    """The commands that tell a reader whether a download is what was released."""
    (found,) = [text for _, text in fences(ROOT / "docs/operations.md") if "ssh-keygen -Y verify" in text]
    return found


def verify(dist: Path) -> bool:
    return run("bash", "-ec", documented(), cwd=dist).returncode == 0


def test_the_documented_commands_accept_what_was_signed(signed: Path) -> None:
    assert verify(signed)
    assert sorted(line.split()[1] for line in (signed / "SHA256SUMS").read_text().splitlines()) == [
        *("bom.json", "provenance.json", "visionr1_ptst-0.1.0-py3-none-any.whl", "visionr1_ptst-0.1.0.tar.gz"),
    ]


@pytest.mark.parametrize("name", ["bom.json", "provenance.json", "SHA256SUMS", "visionr1_ptst-0.1.0.tar.gz"])
def test_a_file_that_was_changed_after_it_was_signed_is_refused(name: str, signed: Path) -> None:
    file = signed / name
    before = file.read_bytes()
    file.write_bytes(before + b" ")
    try:
        assert not verify(signed)
    finally:
        file.write_bytes(before)


def test_another_key_is_refused(signed: Path, tmp_path: Path) -> None:
    done("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other", cwd=tmp_path)
    signers = signed / "allowed_signers"
    before = signers.read_text()
    signers.write_text(f"{SIGNER} {(tmp_path / 'other.pub').read_text()}")
    try:
        assert not verify(signed)
    finally:
        signers.write_text(before)


def test_packages_are_built_and_signed_by_these_very_commands() -> None:
    script = (ROOT / "images/package.sh").read_text()
    assert f'ssh-keygen -q -Y sign -f "$SIGN_KEY" -n {SPACE} "$dist/SHA256SUMS"' in script
    assert 'images/provenance.py "$dist" "$commit"' in script


def test_the_list_is_made_of_a_checkout_of_the_database(tmp_path: Path) -> None:
    folder = tmp_path / "vulns"
    affected = "affected: [{package: {name: %s, ecosystem: PyPI}, ranges: [{type: ECOSYSTEM, events: [{introduced: '0'}]}]}]\n"
    for name, number, more in (("jinja2", 1, ""), ("jinja2", 2, "withdrawn: '2024-01-01'\n"), ("other", 3, "")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"PYSEC-{number}.yaml").write_text(f"id: PYSEC-{number}\n{more}{affected % name}")
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@example.org")
    done("git", "init", "--quiet", tmp_path, cwd=tmp_path)
    done("git", "add", ".", cwd=tmp_path)
    done(*git, "commit", "--quiet", "-m", "x", cwd=tmp_path)
    made = made_from(tmp_path, {"jinja2", "torch"})
    assert [one["id"] for one in made["packages"]["jinja2"]] == ["PYSEC-1"] and list(made["packages"]) == ["jinja2"]
    assert len(made["source"]["commit"]) == 40
