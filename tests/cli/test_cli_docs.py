"""Every command that the documents show exists and takes the words that it is given.

Those of helm and kubectl are run in tests/cluster/test_cluster_docs.py, those of docs/one-machine.md, one after the other, in
tests/runs/test_runs_one_machine.py.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import yaml
from documents import DOCUMENTS, ROOT, Command, commands, files, yaml_blocks
from ptst_operator.main import main as operator
from samples import samples, step_record
from typer.testing import CliRunner

from visionr1.cli import app
from visionr1.data.digits import problems
from visionr1.recipe import load_recipe, parse_recipe, to_yaml
from visionr1.rundir.layout import RECIPE
from visionr1.rundir.steplog import StepLog
from visionr1.storage import open_store

CHEAP = (
    "--help",
    "recipe presets",
    "recipe show",
    "recipe schema",
    "recipe check my-run",
    "plan ",
    "data check ",
    "grade answers",
    "report ",
    "watch runs/demo --once",
)
"""Beginnings of commands that take a moment and are run as they stand, in a reader's folder."""
CHECKED = {"visionr1", "ptst-operator", "make", "helm", "kubectl", "python"}
KNOWN = {"git", "cd", "docker", "gpg", "echo", "pip", "python3", "uv", "run", "sha256sum", "ssh-keygen"}
"""Commands of others that set up a machine or an image: nothing of ours to check."""

RUN_WHOLE = ROOT / "docs/one-machine.md"
ALL = [command for document in DOCUMENTS for command in commands(document)]
VISIONR1 = [command for command in ALL if command.words[0] == "visionr1"]
OPERATOR = [command for command in ALL if command.words[0] == "ptst-operator"]
MAKE = [command for command in ALL if command.words[0] == "make"]
PROGRAMS = sorted({command.words[1:] for command in ALL if command.words[0] == "python" and command.document != RUN_WHOLE})
CHEAP_ONES = [command for command in VISIONR1 if " ".join(command.words[1:]).startswith(CHEAP) and command.document != RUN_WHOLE]
FOLDERS = ("visionr1", "operators", "charts", "tests", "benchmarks", "docs", "images", ".ci", ".github")
NAMED_FILE = re.compile(r"(?<!`)`([\w.*-]+(?:/[\w.*-]+)+)/?`(?!`)")
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]*))?\)")


def test_the_documents_hold_commands() -> None:
    assert len(VISIONR1) > 10 and len(MAKE) > 5


def test_it_is_known_how_each_command_is_checked() -> None:
    assert {command.words[0] for command in ALL} - CHECKED - KNOWN == set()


@pytest.mark.parametrize("command", VISIONR1, ids=str)
def test_a_documented_command_takes_its_words(command: Command) -> None:
    found: Any = typer.main.get_command(app)
    rest = list(command.words[1:])
    while rest and rest[0] in vars(found).get("commands", {}):
        found = found.commands[rest.pop(0)]
    if rest and rest != ["--help"]:  # without words of its own a command is only named
        assert "commands" not in vars(found), f"{command}: no such command"
        found.make_context("visionr1", rest)


def test_the_documented_operator_takes_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert OPERATOR
    for command in OPERATOR:
        with pytest.raises(SystemExit) as ended:
            operator([*command.words[1:], "--help"])
        assert ended.value.code == 0
        reported = capsys.readouterr().out
        assert [word for word in command.words if word.startswith("--") and word not in reported] == []


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the documents' reader has: problems, chains of thought, answers, a recipe, a reward, and a run of a few steps."""
    folder = tmp_path_factory.mktemp("reader") / "folder"
    samples(folder).rename(folder / "chains.jsonl")
    rows = [{"images": list(row.images), "problem": row.problem, "answer": row.answer} for row in problems("train")[:8]]
    (folder / "problems").mkdir()
    for name in ("problems/train.parquet", "test.parquet"):
        pq.write_table(pa.Table.from_pylist(rows), folder / name)
    (folder / "geo3k").mkdir()
    verl = [{"prompt": [{"role": "user", "content": "1 + 2?"}], "reward_model": {"style": "rule", "ground_truth": "3"}}]
    pq.write_table(pa.Table.from_pylist(verl), folder / "geo3k/train.parquet")
    data = {"train": {"path": "problems/train.parquet"}, "held_out": {"path": "test.parquet"}}
    mine = {"preset": "demo", "name": "my-run", "data": data, "coldstart": None, "sft": {"data": {"path": "chains.jsonl"}}}
    (folder / "my-run.yaml").write_text(yaml.safe_dump(mine))
    answer = {"response": "<think> 3 and 4 </think><answer> Final Answer:7 </answer>", "answer": "7"}
    (folder / "answers.jsonl").write_text(json.dumps(answer) + "\n")
    (folder / "mine.py").write_text(files(ROOT / "docs/your-own.md")["mine.py"])
    store = open_store(str(folder / "runs/demo"))
    store.write_bytes(RECIPE, to_yaml(load_recipe("demo")).encode())
    log = StepLog(store, "stage-1", 0)
    for step in (1, 2, 3):
        log.append(step_record(step))
    return folder


def test_the_documented_hash_is_that_of_the_documented_reward() -> None:
    shown = files(ROOT / "docs/your-own.md")
    reward = yaml.safe_load(shown["reward.yaml"])["run"]["recipe"]["reward"]
    assert reward["sha256"] == hashlib.sha256(shown["mine.py"].encode()).hexdigest()


@pytest.mark.parametrize("command", CHEAP_ONES, ids=str)
def test_a_cheap_documented_command_works(command: Command, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(reader)
    ended = CliRunner().invoke(app, command.words[1:], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output


@pytest.mark.parametrize("command", MAKE, ids=str)
def test_a_documented_target_exists(command: Command) -> None:
    made = subprocess.run(["make", "--dry-run", *command.words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, f"{command}: {made.stderr}"


@pytest.mark.parametrize("words", PROGRAMS, ids=" ".join)
def test_a_documented_program_has_its_flags(words: tuple[str, ...]) -> None:
    program = (ROOT / words[0]).read_text()
    assert [word for word in words if word.startswith("--") and f'add_argument("{word}"' not in program] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_documented_recipe_is_one(document: Path) -> None:
    blocks = yaml_blocks(document)
    assert "unknown" not in [kind for kind, _ in blocks]
    for kind, parts in blocks:
        if kind == "recipe":
            parse_recipe(yaml.safe_dump(parts[0]), document.name)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    broken = [
        f"{path}#{anchor}"
        for path, anchor in LINK.findall(re.sub(r"`[^`\n]*`", "", document.read_text()))
        if not (target := (document.parent / path if path else document)).exists() or (anchor and anchor not in anchors(target))
    ]
    assert broken == []


def test_every_page_is_reached_from_the_index() -> None:
    docs = (ROOT / "docs").resolve()
    pages = {page.resolve() for page in DOCUMENTS}
    seen: set[Path] = set()
    ahead = {docs / "README.md"}
    while ahead:
        seen |= ahead
        ahead = {page for one in ahead for page in linked_pages(one)} & pages - seen
    assert sorted(page.name for page in pages - seen if docs in page.parents) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_of_the_project_that_a_page_names_exist(document: Path) -> None:
    named = [name for name in NAMED_FILE.findall(document.read_text()) if name.split("/")[0] in FOLDERS or name.endswith(".py")]
    places = (ROOT, ROOT / "visionr1", ROOT / "operators/ptst_operator")
    assert [name for name in named if not any(list(place.glob(name)) for place in places)] == []


def linked_pages(document: Path) -> set[Path]:
    """Files that the document links to, as absolute paths."""
    return {(document.parent / path).resolve() for path, _ in LINK.findall(document.read_text()) if path}


def anchors(document: Path) -> set[str]:
    """Of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
