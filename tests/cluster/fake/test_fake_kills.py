"""The operator is killed anywhere in a run, and the run does not notice."""

from __future__ import annotations

import json
import time
from random import Random

import pytest
from release import ENDED

from fake.controllers import Controllers
from fake.fake_release import FakeRelease, check_undisturbed, ended

PAUSE = 1.5
"""Mean seconds between two kills. A new operator has looked at every run within one."""


def kill_through(controllers: Controllers, release: FakeRelease, kills: int, names: list[str], random: Random) -> int:
    """Kills the operator at random moments until the runs have ended or `kills` are done; gives how many there were."""
    done = 0
    while done < kills:
        time.sleep(random.uniform(0, 2 * PAUSE))
        if all(one.get("status", {}).get("phase") in ENDED for one in release.get("ptst")["items"]):
            break
        release.kill_operator()
        done += 1
    ended(release, names, 180)
    check_undisturbed(controllers, release, names)
    assert release.starts >= done
    return done


@pytest.mark.timeout(300)
def test_a_killed_operator_leaves_no_trace_in_a_run(controllers: Controllers, release: FakeRelease) -> None:
    release.install_fake({})
    assert kill_through(controllers, release, 5, ["run"], Random(1)) >= 3


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_thirty_kills_of_the_operator(controllers: Controllers, release: FakeRelease) -> None:
    random, kills, turn, begun = Random(2), 0, 0, time.monotonic()
    release.install_fake()
    while kills < 30:
        names = [f"run-{turn}-{number}" for number in range(3)]
        release.create(*names)
        kills += kill_through(controllers, release, 30 - kills, names, random)
        turn += 1
    result = {"kills": kills, "runs": 3 * turn, "seconds": round(time.monotonic() - begun)}
    print(f"\n{json.dumps(result)}")
