"""What the report and the data card count over all samples that are written."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from visionr1.data.coldstart.outcomes import Outcomes
from visionr1.data.coldstart.output import Written
from visionr1.data.reflection import REFLECTION_WORDS, count_reflection
from visionr1.rundir.coldstart import ColdStartReport, Example, TeacherUse


@dataclass
class Tally:
    """Counted one sample at a time; `words` is the length of each response, `reflecting` how many hold a word of reflection."""

    unnamed: str
    """What the source is called of rows that do not name a file."""
    words: array[int] = field(default_factory=lambda: array("l"))
    reflection: Counter[str] = field(default_factory=Counter)
    reflecting: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)

    def add(self, sample: Written) -> None:
        """Counts a sample."""
        found = count_reflection(sample.response)
        self.words.append(len(sample.response.split()))
        self.reflection += found
        self.reflecting.update(found.keys())
        self.sources[sample.row.id.rpartition("#")[0] or self.unnamed] += 1

    def report(self, outcomes: Outcomes, asked: int, reused: int, teachers: Mapping[str, TeacherUse]) -> ColdStartReport:
        """The report about everything so far."""
        return ColdStartReport(
            problems=len(outcomes),
            kept=outcomes.kept,
            rejected=dict(outcomes.dropped.most_common()),
            examples={rule: Example(id=row_id, excerpt=excerpt) for rule, (row_id, excerpt) in outcomes.examples().items()},
            reflection_words={word: self.reflection[word] for word in REFLECTION_WORDS},
            mean_words=sum(self.words) / max(1, len(self.words)),
            asked=asked,
            reused=reused,
            teachers=dict(teachers),
        )
