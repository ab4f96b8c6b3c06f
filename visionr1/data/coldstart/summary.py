"""What became of the problems, for people: a table for the terminal, and the card that lies beside the data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from visionr1.data.badrow import one_line
from visionr1.data.coldstart.tally import Tally
from visionr1.recipe.coldstart import ColdStart, Teacher
from visionr1.rundir.coldstart import ColdStartReport
from visionr1.version import version_line

_PERCENTILES: Final = (0, 10, 50, 90, 100)


def coldstart_table(report: ColdStartReport) -> Table:
    """How many problems were kept, and how many each rule has dropped, with an example."""
    requests = f"{report.asked:,} requests sent, {report.reused:,} answered before"
    title = f"{report.kept:,} of {report.problems:,} problems gave a sample; {requests}"
    table = Table(title=Text(title), title_justify="left")
    for header in ("outcome", "problems", "share", "for example"):
        table.add_column(header, overflow="fold")
    for name, count in (("kept", report.kept), *report.rejected.items()):
        example = report.examples.get(name)
        shown = Text("" if example is None else one_line(f"{example.id}: {example.excerpt}")[:160])
        table.add_row(name, f"{count:,}", f"{count / max(1, report.problems):.1%}", shown)
    for name, use in report.teachers.items():
        cost = f", cost {use.cost:,.2f}" if use.cost else ""
        if use.prompt_tokens + use.reply_tokens:
            table.add_row(name, "", "", f"{use.prompt_tokens:,} tokens of prompts, {use.reply_tokens:,} of replies{cost}")
    return table


def card(report: ColdStartReport, tally: Tally, coldstart: ColdStart, prompts: dict[str, str]) -> str:
    """A data card in the form of Hugging Face's hub; its head tells `datasets` which files to read.

    `prompts` are the SHA-256 of the prompts by name.
    """
    head = {"configs": [{"config_name": "default", "data_files": "parquet/*.parquet"}]}
    words = sorted(tally.words)
    lengths = [f"{words[round(percent / 100 * (len(words) - 1))]:,}" if words else "" for percent in _PERCENTILES]
    parts = [
        f"---\n{json.dumps(head)}\n---\n\n# Chains of thought by modality bridging",
        f"{report.kept:,} samples from {report.problems:,} problems, made by {version_line()} as in section 3.3.1 of Vision-R1 "
        "(arXiv 2503.06749).",
        "The licences of the sources hold for the samples, too, and so do the terms of the teachers. This program knows neither.",
        "## Sources",
        _table(("source", "samples"), [(name, f"{count:,}") for name, count in tally.sources.most_common()]),
        "## How they were made",
        _table(
            ("", ""),
            [
                ("describer", _teacher(coldstart.describer)),
                ("reasoner", _teacher(coldstart.reasoner)),
                ("answer given to the reasoner", str(coldstart.give_answer_to_reasoner).lower()),
                ("pseudo-CoT", str(coldstart.pseudo_cot).lower()),
                ("control", coldstart.control),
                ("samples per problem", str(coldstart.samples)),
                ("requests of the last attempt", f"{report.asked:,} sent, {report.reused:,} answered before"),
                *((f"prompt {name}", f"SHA-256 {digest[:16]}") for name, digest in prompts.items()),
            ],
        ),
        "## What the filters dropped",
        _table(
            ("rule", "problems", "share"),
            [(rule, f"{count:,}", f"{count / report.problems:.1%}") for rule, count in report.rejected.items()],
        ),
        "## Length of the responses, in words",
        _table([f"{percent} %" for percent in _PERCENTILES], [lengths]),
        "## Words of reflection",
        _table(
            ("word", "occurrences", "responses with it"),
            [(word, f"{count:,}", f"{tally.reflecting[word]:,}") for word, count in report.reflection_words.items()],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _teacher(teacher: Teacher) -> str:
    return f"{teacher.model}, temperature {teacher.temperature:g}, at most {teacher.max_tokens:,} tokens"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(one_line(cell).replace('|', '&#124;') for cell in line)} |" for line in lines)
