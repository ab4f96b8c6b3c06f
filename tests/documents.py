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
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / ".github").glob("*.md")),
    CHART / "README.md",
]
_SHELL = ("sh", "bash", "shell", "console")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`((?:visionr1|make|helm|kubectl|python) [^`\n]+)`(?!`)")
_FILE = re.compile(r"# ([\w-]+\.\w+)\n")


@dataclass(frozen=True)
class Command:
    """One command that a reader types."""

    document: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}: {shlex.join(self.words)}"


def fences(document: Path) -> list[tuple[str, str]]:
    """Language and text of each block, in order."""
    return _FENCE.findall(document.read_text())


def commands(document: Path) -> list[Command]:
    """Those of shell blocks and code spans, the program without its folder; `a|b` in a word of ours stands for each of them."""
    blocks = [line for language, text in fences(document) if language in _SHELL for line in _lines(text)]
    found = []
    for line in [*blocks, *_SPAN.findall(document.read_text())]:
        for part in re.split(r"\s&&\s|\s\|\s", line):
            if words := shlex.split(part, comments=True):
                choices = (
                    [word.split("|") for word in words[1:]] if words[0].endswith("visionr1") else [[word] for word in words[1:]]
                )
                found += [Command(document, (Path(words[0]).name, *each)) for each in itertools.product(*choices)]
    return found


def files(document: Path) -> dict[str, str]:
    """Text by name: a block that is no shell's and begins with the comment `# NAME` is that file."""
    named = [(_FILE.match(text), text) for language, text in fences(document) if language not in _SHELL]
    return {match[1]: text for match, text in named if match}


def yaml_blocks(document: Path) -> list[tuple[str, list[dict[str, object]]]]:
    """Kind and documents of each YAML block: manifests, values of the chart, a recipe, or Prometheus' configuration."""
    keys = set(yaml.safe_load((CHART / "values.yaml").read_text()))
    found = []
    for language, text in fences(document):
        if language == "yaml":
            parts = list(yaml.safe_load_all(text))
            heads = {key for part in parts for key in part}
            kind = (
                "manifests"
                if "apiVersion" in heads
                else "values"
                if heads <= keys
                else "recipe"
                if heads & {"stages", "preset"}
                else ""
            )
            found.append((kind or ("prometheus" if "scrape_configs" in heads else "unknown"), parts))
    return found


def _lines(text: str) -> list[str]:
    """Whole commands: a line that ends in a backslash, or within quotes, continues on the next line."""
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
