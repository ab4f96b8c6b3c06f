"""Every command that the documents tell a reader to type exists and takes the words that it is given.

Those of helm and kubectl are run in tests/cluster/test_cluster_docs.py.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from documents import DOCUMENTS, ROOT, Command, commands, yaml_blocks

from visionr1.cli import app
from visionr1.recipe import parse_recipe

CHEAP = ("--help", "recipe presets", "recipe show", "recipe schema", "data check demo://")
"""Beginnings of commands that need no run and are run as they stand."""
CHECKED = {"visionr1", "make", "helm", "kubectl"}
KNOWN = {"git", "cd", "docker", "gpg", "pip", "python3", "uv", "run"}
"""Commands of others that set up a machine or an image: nothing of ours to check."""

ALL = [command for document in DOCUMENTS for command in commands(document)]
VISIONR1 = [command for command in ALL if command.words[0] == "visionr1"]
MAKE = [command for command in ALL if command.words[0] == "make"]
CHEAP_ONES = [command for command in VISIONR1 if " ".join(command.words[1:]).startswith(CHEAP)]
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


@pytest.mark.parametrize("command", CHEAP_ONES, ids=str)
def test_a_cheap_documented_command_works(command: Command) -> None:
    from typer.testing import CliRunner

    assert CliRunner().invoke(app, command.words[1:], catch_exceptions=False).exit_code == 0


@pytest.mark.parametrize("command", MAKE, ids=str)
def test_a_documented_target_exists(command: Command) -> None:
    made = subprocess.run(["make", "--dry-run", *command.words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, f"{command}: {made.stderr}"


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


def anchors(document: Path) -> set[str]:
    """Of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
