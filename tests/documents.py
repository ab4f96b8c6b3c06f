"""What the documents show: commands, and files that a reader is to write."""

from __future__ import annotations

import itertools
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts/visionr1-ptst"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), CHART / "README.md"]
OTHERS = "What the cluster needs"
"""The section of install.md whose commands are of others and need the internet."""
_SHELL = ("sh", "bash", "shell", "console")
_FENCE = re.compile(r"^(?:## (?P<section>[^\n]*)|```(?P<language>\w*)\n(?P<text>.*?)^```)", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`((?:visionr1|make|helm|kubectl|python) [^`\n]+)`(?!`)")
_FILE = re.compile(r"# ([\w-]+\.\w+)\n")


@dataclass(frozen=True)
class Command:
    """One command that a reader is told to type."""

    document: Path
    section: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}: {shlex.join(self.words)}"


def fences(document: Path) -> list[tuple[str, str, str]]:
    """Section, language and text of each block, in order."""
    section, found = "", []
    for match in _FENCE.finditer(document.read_text()):
        section = match["section"] or section
        if match["text"] is not None:
            found.append((section, match["language"], match["text"]))
    return found


def commands(document: Path) -> list[Command]:
    """Those of shell blocks and code spans, the program without its folder; `a|b` in a word of ours stands for each of them."""
    blocks = [(section, line) for section, language, text in fences(document) if language in _SHELL for line in _lines(text)]
    spans = [("", span) for span in _SPAN.findall(document.read_text())]
    found = []
    for section, line in [*blocks, *spans]:
        for part in re.split(r"\s&&\s|\s\|\s", line):
            if words := shlex.split(part, comments=True):
                choices = (
                    [word.split("|") for word in words[1:]] if words[0].endswith("visionr1") else [[word] for word in words[1:]]
                )
                found += [Command(document, section, (Path(words[0]).name, *each)) for each in itertools.product(*choices)]
    return found


def files(document: Path) -> dict[str, str]:
    """Text by name: a block that is no shell's and begins with the comment `# NAME` is that file."""
    named = [(_FILE.match(text), text) for _, language, text in fences(document) if language not in _SHELL]
    return {match[1]: text for match, text in named if match}


def yaml_blocks(document: Path) -> list[tuple[str, list[dict[str, object]]]]:
    """Kind and documents of each YAML block: manifests, values of the chart, a recipe, or Prometheus' configuration."""
    keys = set(yaml.safe_load((CHART / "values.yaml").read_text()))
    found = []
    for _, language, text in fences(document):
        if language == "yaml":
            parts = list(yaml.safe_load_all(text))
            heads = {key for part in parts for key in part}
            kind = "manifests" if "apiVersion" in heads else "values" if heads <= keys else "recipe" if "stages" in heads else ""
            found.append((kind or ("prometheus" if "scrape_configs" in heads else "unknown"), parts))
    return found


def _lines(text: str) -> list[str]:
    """Whole commands: a line that ends in a backslash, or within quotes, goes on."""
    lines: list[str] = []
    open_line = ""
    for line in text.replace("\\\n", " ").splitlines():
        open_line += line
        try:
            shlex.split(open_line, comments=True)
        except ValueError:
            continue
        lines.append(open_line)
        open_line = ""
    assert not open_line, f"no end of {open_line}"
    return lines
