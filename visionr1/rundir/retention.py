"""Which checkpoints of a phase stay. Pure."""

from __future__ import annotations

from collections.abc import Collection


def kept(steps: Collection[int], keep_last: int, stage_end: int | None, keep_stage_end: int, every: int = 5) -> set[int]:
    """Which checkpoints of a phase stay.

    The newest `keep_last`, always the very last one, and of the `keep_stage_end` steps that end at the global step `stage_end`
    one checkpoint in each `every` steps (its newest): Vision-R1's appendix A picks the best of them. `stage_end` None means
    that the phase is no stage. Keeping is stable: what a later call keeps, no earlier call gave up.
    """
    ordered = sorted(steps)
    last = set(ordered[-max(keep_last, 1) :])
    if stage_end is None:
        return last
    newest_in_span = {(stage_end - step) // every: step for step in ordered if 0 <= stage_end - step < keep_stage_end}
    return last | set(newest_in_span.values())
