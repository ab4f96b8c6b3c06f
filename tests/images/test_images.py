"""Operator and CPU trainer of this checkout, run with no more than *restricted* pods have.

Another user than root, a root file system that cannot be written, no capabilities, a network of their own. The operator has no
API server here; beside one it runs in `tests/cluster`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from visionr1.errors import EXIT_STOPPED
from visionr1.version import version_line

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
REPOSITORY = os.environ.get("REPOSITORY", "localhost/visionr1-test")
IMAGES = {"operator": ("operator:checkout", "operator"), "trainer": ("trainer:checkout-cpu", "trainer-cpu")}
SETTINGS = (
    "coldstart.problems.limit=20",
    "data.train.limit=8",
    "data.held_out=null",
    "sft.max_steps=1",
    "sft.processes=1",
    "sft.global_batch_size=2",
    "algorithm.prompts_per_step=2",
    "rollout.workers=1",
)
DEVICES = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "nodev", "mode=1777", "size=512m"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},
]


@dataclass
class Image:
    """What is in an image, and how it wants to be started."""

    root: Path
    settings: dict[str, Any]
    lock: Path


@pytest.fixture(scope="module", params=IMAGES)
def image(request: pytest.FixtureRequest) -> Iterator[Image]:
    """Each of the two."""
    with mounted(request.param) as image:
        yield image


@pytest.fixture(scope="module")
def operator() -> Iterator[Image]:
    """The operator's image."""
    with mounted("operator") as image:
        yield image


@pytest.fixture(scope="module")
def trainer() -> Iterator[Image]:
    """The trainer's image without GPUs."""
    with mounted("trainer") as image:
        yield image


@contextmanager
def mounted(name: str) -> Iterator[Image]:
    """Mounted, not written into an archive, which takes minutes for gigabytes."""
    reference, lock = IMAGES[name]
    container = buildah("from", "--pull-never", f"{REPOSITORY}/{reference}")
    try:
        settings = json.loads(buildah("inspect", container))["Docker"]["config"]
        yield Image(Path(buildah("mount", container)), settings, ROOT / f"images/locks/{lock}.txt")
    finally:
        buildah("rm", container)


def buildah(*arguments: str) -> str:
    """What buildah prints."""
    return subprocess.run(["buildah", *arguments], check=True, capture_output=True, text=True).stdout.strip()


class Container:
    """A process of an image; its output is in `log`."""

    def __init__(self, image: Image, folder: Path, user: str, arguments: list[str], env: dict[str, str] | None = None) -> None:
        self._name, self._state = f"visionr1-{folder.name}", str(folder / "state")
        self.log = folder / "log.txt"
        runs = folder / "runs"
        runs.mkdir(exist_ok=True)
        uid, gid = (int(number) for number in user.split(":"))
        os.chown(runs, -1, gid)
        runs.chmod(0o770)  # by its group, as Kubernetes lets pods write to a claim
        (folder / "hosts").write_text("127.0.0.1 localhost\n127.0.0.1 pod\n")
        config = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": uid, "gid": gid},
                "args": [*image.settings["Entrypoint"], *arguments],
                "env": [*image.settings["Env"], *(f"{name}={value}" for name, value in (env or {}).items())],
                "cwd": "/",
                "capabilities": {kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")},
                "noNewPrivileges": True,
            },
            "root": {"path": str(image.root), "readonly": True},
            "hostname": "pod",
            "mounts": [*DEVICES, bind(runs, "/runs", "rw"), bind(folder / "hosts", "/etc/hosts", "ro")],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]},
        }
        (folder / "config.json").write_text(json.dumps(config))
        command = ["runc", "--root", self._state, "run", "--bundle", str(folder), self._name]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def runc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of runc for this container."""
        verb, *rest = arguments
        return subprocess.run(["runc", "--root", self._state, verb, self._name, *rest], capture_output=True, text=True)

    def wait(self, seconds: float) -> int:
        """Its exit code."""
        return self.process.wait(timeout=seconds)


def bind(source: Path, target: str, how: str) -> dict[str, Any]:
    """A file or folder of this machine."""
    return {"destination": target, "type": "bind", "source": str(source), "options": ["rbind", how]}


@contextmanager
def started(*arguments: Any, **more: Any) -> Iterator[Container]:
    """A container that is gone afterwards."""
    container = Container(*arguments, **more)
    try:
        yield container
    finally:
        container.runc("kill", "KILL")
        container.process.wait(timeout=30)


def run_of(steps: int, *more: str) -> list[str]:
    """One step of SFT and some of GRPO, with vLLM."""
    settings = [*SETTINGS, f"stages=[{{max_completion_tokens: 16, group_size: 2, steps: {steps}}}]", *more]
    return ["run", "demo", "--run", "/runs/demo", *(word for setting in settings for word in ("--set", setting))]


def records(folder: Path) -> list[tuple[str, int]]:
    """Phase and step of each line of the step log."""
    log = folder / "runs/demo/steps.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return [(record["phase"], record["step"]) for record in map(json.loads, lines)]


def test_help(trainer: Image, tmp_path: Path) -> None:
    with started(trainer, tmp_path, "1000:1000", ["--help"]) as container:
        assert container.wait(120) == 0, container.log.read_text()
    assert "Run a recipe on this machine" in container.log.read_text()


def test_it_says_which_commit_it_is_of(trainer: Image, tmp_path: Path) -> None:
    with started(trainer, tmp_path, "1000:1000", ["--version"]) as container:
        assert container.wait(120) == 0, container.log.read_text()
    assert container.log.read_text().strip() == version_line()


def test_a_step_of_sft_and_one_of_grpo(trainer: Image, tmp_path: Path) -> None:
    with started(trainer, tmp_path, "1000:1000", run_of(1)) as container:
        assert container.wait(500) == 0, container.log.read_text()
    assert records(tmp_path) == [("sft", 1), ("stage-1", 1)]
    assert (tmp_path / "runs/demo/checkpoints/stage-1/step-1/model.safetensors").stat().st_uid == 1000


def test_a_user_without_a_name_is_stopped_at_a_checkpoint(trainer: Image, tmp_path: Path) -> None:
    """As OpenShift starts pods: any uid, and the group root."""
    with started(trainer, tmp_path, "12345:0", run_of(1000, "coldstart=null", "sft=null")) as container:
        while ("stage-1", 1) not in records(tmp_path):
            assert container.process.poll() is None, container.log.read_text()
            time.sleep(0.5)
        # As flashinfer does when vLLM imports it on a GPU.
        made = container.runc(
            "exec", "python3", "-c", "import pathlib; (pathlib.Path.home() / '.cache/flashinfer').mkdir(parents=True)"
        )
        assert made.returncode == 0, made.stderr
        container.runc("kill", "TERM")
        assert container.wait(120) == EXIT_STOPPED, container.log.read_text()
    last = records(tmp_path)[-1][1]
    assert (tmp_path / f"runs/demo/checkpoints/stage-1/step-{last}/manifest.json").exists()


KUBECONFIG = """\
{"clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:9"}}], "users": [], "current-context": "none",
 "contexts": [{"name": "none", "context": {"cluster": "none", "user": ""}}]}
"""
ASK = """\
import sys, urllib.request, urllib.error
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=5).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def ask(container: Container, path: str) -> str:
    """The status of one of the operator's pages, or what went wrong."""
    done = container.runc("exec", "python3", "-c", ASK, f"http://127.0.0.1:8080/{path}")
    return (done.stdout + done.stderr).strip()


@pytest.mark.parametrize("user", ["1000:1000", "12345:0"])
def test_the_operator_is_healthy_but_not_ready_without_an_api_server(operator: Image, tmp_path: Path, user: str) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/kubeconfig").write_text(KUBECONFIG)
    env = {"KUBECONFIG": "/runs/kubeconfig", "POD_NAMESPACE": "vision"}
    with started(operator, tmp_path, user, [], env) as container:
        for path, status in (("healthz", "200"), ("readyz", "503")):
            until = time.monotonic() + 60
            while (answer := ask(container, path)) != status:
                assert time.monotonic() < until, answer + container.log.read_text()
                time.sleep(0.5)
        assert "CapBnd:\t0000000000000000" in container.runc("exec", "cat", "/proc/1/status").stdout
        assert "Read-only file system" in container.runc("exec", "touch", "/opt/new").stderr
        container.runc("kill", "TERM")
        assert container.wait(30) == 0, container.log.read_text()


def test_the_operator_is_slim(operator: Image) -> None:
    size = subprocess.run(["du", "--summarize", "--bytes", operator.root], check=True, capture_output=True, text=True).stdout
    assert int(size.split()[0]) < 250e6
    assert not [name for name in names(bill(operator)) if name in ("torch", "numpy", "ray")]


def test_the_bill_of_materials_names_what_was_locked(image: Image) -> None:
    found = bill(image)
    assert (found["bomFormat"], found["specVersion"], found["version"]) == ("CycloneDX", "1.6", 1)
    packages = [one["purl"] for one in found["components"]]
    assert len(set(packages)) == len(packages)
    assert {one["type"] for one in found["components"]} == {"library"}
    assert all(re.fullmatch(r"pkg:(pypi|deb/debian)/\S+@\S+", package) for package in packages)
    locked = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", image.lock.read_text(), re.MULTILINE))
    assert names(found).items() >= {normal(name): version for name, version in locked.items()}.items()
    assert {"visionr1-ptst", "python3", "libc6"} <= {one["name"] for one in found["components"]}


def bill(image: Image) -> dict[str, Any]:
    """The image's own bill of materials."""
    found: dict[str, Any] = json.loads((image.root / "usr/share/sbom/sbom.json").read_text())
    return found


def names(found: dict[str, Any]) -> dict[str, str]:
    """Versions of the Python packages."""
    return {normal(one["name"]): one["version"] for one in found["components"] if one["purl"].startswith("pkg:pypi/")}


def normal(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_an_image_says_what_it_is_and_has_nothing_of_its_build(image: Image) -> None:
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in image.settings["Labels"].items()}
    assert {"title", "description", "licenses"} <= labels.keys()
    assert f'version = "{labels["version"]}"' in (ROOT / "pyproject.toml").read_text()
    assert re.fullmatch("[0-9a-f]{40}(-dirty)?", labels["revision"])
    assert labels["base.name"] == "localhost/visionr1-test/debian:bookworm"
    assert re.fullmatch("sha256:[0-9a-f]{64}", labels["base.digest"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", labels["created"])
    assert (image.settings["User"], list(image.settings["Volumes"])) == ("1000:1000", ["/tmp"])
    of_the_build = ("opt/venv/.lock", "opt/app/.lock", "opt/venv/bin/pip", "usr/bin/gcc")
    assert not [path for path in of_the_build if (image.root / path).exists()]
