"""Every command that the documents tell a reader to type exists and takes the words that it is given."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from visionr1.cli import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CHEAP = ("--help", "recipe presets", "recipe show", "data check demo://")
"""Beginnings of commands that need no run and are run as they stand."""


def commands(document: Path) -> list[list[str]]:
    """Words of each command in the document's shell blocks and code spans, without the program's folder."""
    text = document.read_text()
    blocks = re.findall(r"^```(?:sh|bash|shell|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    spans = re.findall(r"(?<!`)`((?:visionr1|make) [^`\n]+)`(?!`)", text)
    parts = [part for line in [*lines, *spans] for part in re.split(r"\s&&\s|\s\|\s", line)]
    found = [shlex.split(part, comments=True) for part in parts]
    return [
        [Path(words[0]).name, *each] for words in found if words for each in itertools.product(*(w.split("|") for w in words[1:]))
    ]


ALL = [(document.name, words) for document in DOCUMENTS for words in commands(document)]
VISIONR1 = [(name, words[1:]) for name, words in ALL if words[0] == "visionr1"]
MAKE = [(name, words) for name, words in ALL if words[0] == "make"]


def test_the_documents_hold_commands() -> None:
    assert len(VISIONR1) > 10 and len(MAKE) > 5


@pytest.mark.parametrize(("document", "words"), VISIONR1, ids=lambda value: value if isinstance(value, str) else " ".join(value))
def test_a_documented_command_takes_its_words(document: str, words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while rest and rest[0] in vars(command).get("commands", {}):
        command = command.commands[rest.pop(0)]
    if rest and rest != ["--help"]:  # without words of its own a command is only named
        assert "commands" not in vars(command), f"{document}: visionr1 {' '.join(words)}: no such command"
        command.make_context("visionr1", rest)


@pytest.mark.parametrize("words", [words for _, words in VISIONR1 if " ".join(words).startswith(CHEAP)], ids=" ".join)
def test_a_cheap_documented_command_works(words: list[str], tmp_path: Path) -> None:
    from typer.testing import CliRunner

    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0


@pytest.mark.parametrize(("document", "words"), MAKE, ids=lambda value: value if isinstance(value, str) else " ".join(value))
def test_a_documented_target_exists(document: str, words: list[str]) -> None:
    made = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, f"{document}: {' '.join(words)}: {made.stderr}"
