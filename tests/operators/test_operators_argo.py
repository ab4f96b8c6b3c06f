"""The health script for Argo CD in the documents, run by a Lua interpreter on statuses that the operator has written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lupa.lua54
import pytest
from site_of_a_run import Site, without_coldstart

PAGE = (Path(__file__).parents[2] / "docs/platform.md").read_text()


def health(run: dict[str, Any]) -> tuple[str, str]:
    """What Argo CD shows of a run."""
    (script,) = re.findall(r"```lua\n(.*?)```", PAGE, re.DOTALL)
    lua = lupa.lua54.LuaRuntime(unpack_returned_tuples=True)
    judge = lua.eval(f"function(obj) {script} end")
    made = judge(lua.table_from(run, recursive=True))
    return str(made["status"]), str(made["message"])


def begun(site: Site) -> None:
    site.look(2)
    site.start_child()
    site.look(2)


def fails(site: Site) -> None:
    begun(site)
    site.end_child(64)
    site.look(2)


def suspends(site: Site) -> None:
    begun(site)
    site.cluster.change_spec(suspend=True)
    site.look(2)
    site.cluster.collect()
    site.look(2)


def succeeds(site: Site) -> None:
    for name, step in (("sft", 3), ("stage-1", 4), ("stage-2", 8)):
        site.commit(name, step, final=True)
    site.store.write_bytes("eval/stage-2.json", b'{"step": 8}')
    site.look(3)


def holds(site: Site) -> None:
    site.cluster.change_spec(holdBefore=["sft"])
    site.look(2)


def changes(site: Site) -> None:
    begun(site)
    site.cluster.change_spec(suspend=True)


def refuses(site: Site) -> None:
    site.cluster.change_spec(recipeFrom={"configMap": "none"}, recipe=None)
    site.look(2)


@pytest.mark.parametrize(
    ("story", "status", "message"),
    [
        (lambda site: None, "Progressing", "the operator has not seen the run yet"),
        (lambda site: site.look(2), "Progressing", "sft: PyTorchJob run-sft-0 does not run yet"),
        (begun, "Healthy", "sft runs as PyTorchJob run-sft-0"),
        (changes, "Progressing", "the operator has not seen the last change yet"),
        (suspends, "Suspended", "stopped in or before sft"),
        (holds, "Suspended", "sft waits for your approval"),
        (fails, "Degraded", "sft: bad recipe or data"),
        (refuses, "Degraded", "spec.recipeFrom: there is no ConfigMap none"),
        (succeeds, "Healthy", "all phases are done"),
    ],
    ids=["new", "waits", "trains", "changed", "suspended", "held", "failed", "refused", "done"],
)
def test_argo_cd_shows_what_the_run_does(story: Callable[[Site], object], status: str, message: str, tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    story(site)
    shown = health(site.cluster.run)
    assert (shown[0], shown[1][: len(message)]) == (status, message)
