"""Teachers that are vLLM inside the job."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from visionr1.demo.chains import READ_ALOUD
from visionr1.recipe import load_recipe, parse_recipe, to_yaml
from visionr1.recipe.coldstart import TeacherWorkers
from visionr1.rollout.serving import vllm_plan

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ROWS = 40


def problems(folder: Path) -> Path:
    picture = io.BytesIO()
    Image.new("RGB", (56, 28), "white").save(picture, "PNG")
    (folder / "a.png").write_bytes(picture.getvalue())
    rows = [{"image": "a.png", "problem": f"<image>What is {n}+5?", "answer": str(n + 5)} for n in range(ROWS)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "rows.jsonl"


def in_a_process(*command: str | Path, seconds: float) -> subprocess.CompletedProcess[str]:
    """Python with these arguments. Not in pytest's own folder for temporary files: the paths of Ray's sockets must be short."""
    with tempfile.TemporaryDirectory(dir="/tmp") as scratch:
        environment = os.environ | {"TMPDIR": scratch, "PYTHONPATH": str(ROOT)}
        arguments = [sys.executable, *map(str, command)]
        done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stderr
    return done


def driver(folder: Path) -> list[Path]:
    """The command of a cold start that counts in `folder/counts`."""
    (folder / "counts").mkdir()
    return [HERE / "serving_driver.py", HERE / "serving_stub.py", problems(folder), folder / "run", folder / "counts"]


def assert_each_reply_is_kept_once(run: Path) -> None:
    work = [json.loads(line) for part in (run / "coldstart/work").iterdir() for line in part.read_text().splitlines()]
    assert len(work) == len({line["request"] for line in work}) == 3 * ROWS


def test_a_killed_worker_is_started_again_and_nothing_is_lost(tmp_path: Path) -> None:
    done = in_a_process(*driver(tmp_path), seconds=200)
    finished, failed = done.stdout.splitlines()
    assert finished == f"{ROWS} {ROWS} {3 * ROWS}"
    assert "coldstart.describer: worker" in done.stderr and "; it is started again" in done.stderr
    assert failed == "Unreachable: coldstart.describer: worker 0: vLLM has ended with code 1: ValueError: no such model"
    assert_each_reply_is_kept_once(tmp_path / "run")


TWO_NODES = """
import os, subprocess, sys, time
from pathlib import Path

from ray.cluster_utils import Cluster

counts, *driver = sys.argv[1:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
lost = cluster.add_node(num_cpus=2)
process = subprocess.Popen([sys.executable, *driver], env=os.environ | {"RAY_ADDRESS": cluster.address})
while not Path(counts, "lose-a-node").exists() and process.poll() is None:
    time.sleep(0.05)
cluster.remove_node(lost, allow_graceful=False)
cluster.add_node(num_cpus=2)
code = process.wait()
cluster.shutdown()
sys.exit(code)
"""


def test_a_lost_machine_s_workers_are_started_on_another(tmp_path: Path) -> None:
    done = in_a_process("-c", TWO_NODES, tmp_path / "counts", *driver(tmp_path), "node", seconds=250)
    assert done.stdout.splitlines()[-2] == f"{ROWS} {ROWS} {3 * ROWS}"
    assert "its process or its machine is gone; it is started again" in done.stderr
    assert_each_reply_is_kept_once(tmp_path / "run")


def test_how_vllm_is_started() -> None:
    workers = TeacherWorkers(tensor_parallel=8, max_model_len=32_768, max_sequences=64)
    on_gpu, on_cpu = (vllm_plan("owner/name", workers, "secret", cuda) for cuda in (True, False))
    assert {"--model=owner/name", "--tensor-parallel-size=8", "--max-model-len=32768", "--max-num-seqs=64"} <= {*on_gpu.command}
    assert "--gpu-memory-utilization=0.9" in on_gpu.command and "--load-format=safetensors" in on_gpu.command
    assert (on_gpu.gpus, on_cpu.gpus) == (8, 0)
    assert "--kv-cache-memory-bytes=1073741824" in on_cpu.command
    assert not any("secret" in word for word in on_gpu.command) and on_gpu.environment["VLLM_API_KEY"] == "secret"


PICTURES = 192


def test_the_demo_s_base_describes_and_the_scripted_teacher_reasons(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "description_alone.txt").write_text(READ_ALOUD + " {question}")
    changes = {
        "preset": "demo",
        "coldstart": {
            "problems": {"path": "demo://digits/train", "limit": PICTURES},
            "describer": {"base_url": None, "model": "demo", "max_tokens": 64, "workers": {"cpu_kv_cache_gib": 0.25}},
            "pseudo_cot": False,
            "prompts_dir": str(prompts),
        },
        "rollout": {"device": "cpu"},
    }
    recipe = parse_recipe(json.dumps(changes), "test")
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(to_yaml(recipe))
    in_a_process("-m", "visionr1.cli", "coldstart", "--run", run, seconds=280)
    report = json.loads((run / "coldstart/report.json").read_text())
    assert report["problems"] == PICTURES and report["kept"] >= 56, "chance gives 20"
    unreasoned = sum(report["rejected"].values()) - report["rejected"].get("wrong answer", 0)
    assert report["asked"] >= 2 * PICTURES - unreasoned, "a description that is no good is not reasoned about"
    assert report["teachers"]["describer"]["reply_tokens"] > PICTURES * 5
    assert load_recipe(str(run / "recipe.yaml")) == recipe
