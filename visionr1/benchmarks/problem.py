"""What every benchmark's rule sees: a problem, and what a rule and a benchmark are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from visionr1.data.rows import Row


@dataclass(frozen=True)
class Problem:
    """A problem of a benchmark.

    `row` is as everywhere: `row.problem` is the whole prompt, `row.answer` the true answer as our strict rule takes it,
    `row.options` the texts of a multiple choice. `facts` are the cells of the columns that the set's own rule reads.
    """

    row: Row
    question: str
    facts: Mapping[str, Any]


Same = Callable[[str, str], bool]
"""Whether the comparer of the reward takes an answer and the true one for the same. It may ask a process that can be killed."""
Read = Callable[[Problem, str], str]


@dataclass(frozen=True)
class Rule:
    """A set's own way of scoring. A change of what it says about any reply takes another version.

    Attributes:
        read: the answer in a reply to a problem, as the set's authors read it; never fails.
        read_block: the answer in the text of an answer block.
        right: whether an answer that was read is right.
        short_cut: as `read`, but None where the authors ask a language model for the answer.
    """

    name: str
    version: int
    read: Read
    read_block: Read
    right: Callable[[Problem, str, Same], bool]
    short_cut: Callable[[Problem, str], str | None] = lambda _problem, _reply: None


@dataclass(frozen=True)
class Draft:
    """What a reader makes of a row: its own id, its question, its options as a text for the prompt ("": none), and the truth.

    `choices` are the texts of a multiple choice, as the strict rule takes them.
    """

    id: str
    question: str
    options: str
    answer: str
    choices: tuple[str, ...]
    picture: Any


Right = Sequence[tuple[Problem, bool]]
"""Which problems one pass over a set has answered rightly."""
Kind = Literal["text", "number", "texts", "picture", "any"]


@dataclass(frozen=True)
class Column:
    """A column that a set must have, or may have: `kind` is what is in its cells, `names` its names in the published files."""

    names: tuple[str, ...]
    kind: Kind
    needed: bool = True


@dataclass(frozen=True)
class Benchmark:
    """One published set.

    Attributes:
        source: where it is on the Hub.
        sizes: number of problems by split.
        columns: by the name that `draft` and the rule use.
        draft: makes a problem of a row, by cells under the names of `columns`. Raises ValueError with what is wrong.
        judged: what a judge does, if there is one: nothing, read the answer, or also decide whether it is right.
        figures: other numbers than the mean, in [0, 1], by name.
    """

    name: str
    title: str
    source: str
    sizes: Mapping[str, int]
    columns: Mapping[str, Column]
    draft: Callable[[Mapping[str, Any], int], Draft]
    rule: Rule
    judged: Literal["nothing", "reading", "scoring"] = "nothing"
    figures: Callable[[Right], dict[str, float]] = lambda _: {}
