"""A phase without a model: commits real checkpoints and ends as the test asks.

Usage: fake_phase.py BEHAVIOUR RUN PHASE INPUT_PHASE FIRST_STEP LAST_STEP SECONDS_A_STEP
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

from visionr1.progress import progress
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.layout import COLDSTART_MANIFEST, eval_key
from visionr1.storage import open_store

behaviour, run, phase, input_phase = sys.argv[1:5]
first, last = int(sys.argv[5]), int(sys.argv[6])
store = open_store(run)
checkpoints = Checkpoints(store, phase)
stops: list[int] = []
signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "stubborn" else lambda number, _: stops.append(number))


def commit(step: int) -> None:
    folder = checkpoints.staging(step)
    (folder / "weights").write_bytes(b"w" * step)
    checkpoints.commit(step, checkpoints.publish(step, folder, ["weights"]), {"final": step == last})


print(f"{phase} begins as {behaviour}", flush=True)
if behaviour == "bad input":
    print("data.train: no such file", file=sys.stderr)
    sys.exit(64)
if behaviour == "crash":
    sys.exit("Traceback: it broke")
if behaviour in ("leave a process", "be killed"):
    left = subprocess.Popen(["sleep", "600"], start_new_session=True)
    mark = store.local_path("left.pid")
    assert mark is not None
    mark.write_text(str(left.pid))
    if behaviour == "be killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit(1)
if behaviour == "end early":
    sys.exit(0)
if phase == "coldstart":
    store.write_bytes(COLDSTART_MANIFEST, b"{}")
    sys.exit(0)
if phase == "evaluate":
    step = Checkpoints(store, input_phase).latest()
    store.write_bytes(eval_key(input_phase), json.dumps({"phase": input_phase, "step": step}).encode())
    sys.exit(0)
start = checkpoints.latest() or first
with progress(f"training {phase}", last - first, start - first) as advance:
    for step in range(start + 1, last + 1):
        time.sleep(float(sys.argv[7]))
        commit(step)
        advance(1, f"loss {1 / step:.3f}")
        if behaviour == "stubborn":
            time.sleep(600)
        if stops and step < last:
            sys.exit(3)
        if behaviour == "crash halfway" and step == (first + last) // 2:
            sys.exit(1)
        if behaviour == "stop itself":
            sys.exit(3)
# A failure after the final checkpoint does not undo the phase.
sys.exit(1 if behaviour == "fail at the very end" else 0)
