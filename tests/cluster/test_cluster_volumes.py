"""What the definition says, before a real API server, of volumes that pods of a run cannot have."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from control_plane import Cluster
from ptst_run import run


def mounts(*paths: str, volumes: Iterable[str] = (), **own: Any) -> dict[str, Any]:
    """Pods with volumes: each of these, and one at each of these paths."""
    names = [f"at-{number}" for number, _ in enumerate(paths)]
    return {
        "volumes": [{"name": name, "emptyDir": {}} for name in (*volumes, *names)],
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in zip(names, paths, strict=True)],
        **own,
    }


def on_claim(path: str, **more: Any) -> dict[str, Any]:
    """A run in a claim that is mounted there."""
    return run(storage={"url": f"{path.rstrip('/')}/run", "claim": {"name": "c", "mountPath": path}}, **more)


IMAGE = {"image": "trainer:1"}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a claim at the root": (on_claim("/"), "spec.storage.claim.mountPath is /, /tmp or /dev/shm"),
    **{
        f"a claim at {path}": (on_claim(path), "spec.storage.claim.mountPath is /, /tmp or /dev/shm, where every pod has")
        for path in ("/tmp", "/tmp/", "/dev/shm", "/dev/shm/")
    },
    **{
        f"{path} beside a claim at {claim}": (
            on_claim(claim, evaluate={"pods": mounts(path)}),
            "a volume is mounted at spec.storage.claim.mountPath",
        )
        for path, claim in (("/runs", "/runs"), ("/runs/", "/runs"), ("/runs", "/runs/"))
    },
    **{
        f"a volume at {path}": (run(pods=IMAGE | mounts(path)), "a volume is mounted at /tmp, where every pod")
        for path in ("/tmp", "/tmp/")
    },
    **{
        f"a volume at {path} beside shared memory": (
            run(pods=IMAGE | pods, sft={"pods": role}),
            "a volume is mounted at /dev/shm beside sharedMemory",
        )
        for path, pods, role in (
            ("/dev/shm", mounts("/dev/shm", sharedMemory="1Gi"), {}),
            ("a role's /dev/shm/", {"sharedMemory": "1Gi"}, mounts("/dev/shm/")),
            ("all roles' /dev/shm", mounts("/dev/shm"), {"sharedMemory": "1Gi"}),
        )
    },
    **{
        f"two volumes at {one} and {other}": (run(sft={"pods": mounts(one, other)}), "two volumes are mounted at one path")
        for one, other in (("/a", "/a"), ("/a/", "/a"), ("/a", "/a/"))
    },
    "a mount without a path": (
        run(pods=IMAGE | mounts(volumes=["a"]) | {"volumeMounts": [{"name": "a"}]}),
        "or a mount has no mountPath",
    ),
    "two volumes of one name": (run(pods=IMAGE | mounts(volumes=["a", "a"])), "two volumes have one name"),
    "a volume without a name": (run(pods=IMAGE | {"volumes": [{"emptyDir": {}}]}), "or one has none"),
    **{
        f"a mount without its volume, {whose}": (
            run(pods=IMAGE | pods, grpo={"workers": role}),
            "volumeMounts name a volume that volumes do not have",
        )
        for whose, pods, role in (
            ("of all pods", {"volumeMounts": mounts("/a")["volumeMounts"]}, {}),
            ("of a role", {}, {"volumeMounts": mounts("/a")["volumeMounts"]}),
            ("of all pods beside a role's own volumes", mounts("/a"), {"volumes": []}),
            ("of a role beside other volumes of all pods", mounts(volumes=["b"]), {"volumeMounts": mounts("/a")["volumeMounts"]}),
        )
    },
}


@pytest.mark.parametrize(("manifest", "answer"), BAD.values(), ids=BAD.keys())
def test_volumes_that_no_pod_can_have_are_refused(
    manifest: dict[str, Any], answer: str, cluster: Cluster, namespace: str
) -> None:
    assert answer in cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(manifest), check=False)


def test_a_role_mounts_volumes_of_its_own_or_of_all_pods(cluster: Cluster, namespace: str) -> None:
    shared, own = mounts("/data"), mounts("/more/")
    made = on_claim(
        "/runs/",
        pods=IMAGE | shared,
        sft={"pods": {"volumeMounts": own["volumeMounts"]}},
        grpo={"head": own, "workers": {"volumes": [*shared["volumes"], {"name": "b", "emptyDir": {}}]}},
        evaluate={"pods": {"volumes": [], "volumeMounts": []}},
        coldstart={"pods": {"sharedMemory": "1Gi"}},
    )
    assert "created" in cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(made))
