"""The six panels of the paper's figure 1, drawn for one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from visionr1.data.reflection import REFLECTION_WORDS
from visionr1.recipe.phases import BASE_MODEL, SFT_PHASE, stage_number, stage_phases
from visionr1.report.collect import PhaseRecord, Run
from visionr1.report.measures import Bucket, bucket_edges, length_buckets, series, short, smooth, smoothing_window, spans
from visionr1.report.svg import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Scale,
    axis_title,
    axis_x,
    axis_y,
    draw,
    element,
    empty,
    error_bar,
    first_that_fits,
    hover,
    legend,
    polyline,
    ticks,
)
from visionr1.report.words import percent

COLOURS = 6
_NOT_SCORED = "appears after the evaluation"
_NOT_TRAINED = "appears with the first GRPO step"
_MOST_STRIPS = 150


@dataclass(frozen=True)
class Panel:
    """One panel of figure 1: its letter, a heading, a note, and the drawing as SVG."""

    letter: str
    title: str
    note: str
    svg: str


def colour(phase: PhaseRecord) -> str:
    """CSS class of a phase: `p0` before GRPO, `p1` to `p6` for the stages (then `p1` again), `other` if it has no model."""
    number = stage_number(phase.name)
    if number is not None:
        return f"p{(number - 1) % COLOURS + 1}"
    return "p0" if phase.name in (SFT_PHASE, BASE_MODEL) else "other"


def panels(run: Run) -> list[Panel]:
    """(A) to (F), each with the results that there are so far."""
    window = smoothing_window(max((len(series(stage, "reward_mean")) for stage in run.stages), default=0))
    averaged = f"; the bold line is the mean over {window} steps" if window > 1 else ""
    responses = max((len(phase.samples.outcomes) for phase in run.scored), default=0)
    counted = f", in {responses:,} held-out responses per phase" if responses else ", in the held-out responses of each phase"
    return [
        Panel("A", "Accuracy by length", "Held-out responses grouped by their length, before and after GRPO.", by_length(run)),
        Panel("B", "Accuracy after each phase", "Held-out pass@1; the bars show one standard error.", by_phase(run)),
        Panel("C", "Words of reflection", f"Whole words in any case{counted}.", words(run)),
        Panel("D", "Completion length", f"Mean of each rollout batch; dashed: the stage's limit{averaged}.", lengths(run)),
        Panel(
            "E", "Held-out accuracy", "After the last step of each phase; the bars show one standard error.", accuracy_curve(run)
        ),
        Panel("F", "Reward", f"Mean of each rollout batch{averaged}.", rewards(run)),
    ]


def by_length(run: Run) -> str:
    """(A) Two rows of bars for the same length buckets: share of outputs, and accuracy."""
    label = "Accuracy by completion length"
    scored = [phase for phase in run.scored if phase.samples.outcomes]
    if not scored:
        return empty(label, _NOT_SCORED)
    models = scored[:1] if len(scored) == 1 else [scored[0], scored[-1]]
    edges = bucket_edges(run.recipe)
    columns = [(model, length_buckets(model.samples.outcomes, edges)) for model in models]
    rows = [
        _bucket_row(columns, "share of outputs", TOP, 108, lambda bucket: bucket.share),
        _bucket_row(columns, "accuracy", 156, BOTTOM, lambda bucket: bucket.accuracy),
    ]
    buckets = columns[0][1]
    slot = (RIGHT - LEFT) / len(buckets)
    names = [
        element("text", text=b.label, x=LEFT + slot * (i + 0.5), y=BOTTOM + 16, class_="tick", text_anchor="middle")
        for i, b in enumerate(buckets)
    ]
    return draw(label, _legend(models), *rows, *names, axis_title("completion length, tokens", (LEFT + RIGHT) / 2, BOTTOM + 35))


def _legend(shown: Sequence[PhaseRecord]) -> str:
    """Stages by number when there are many."""
    return legend([(phase.title if len(shown) < 5 else phase.short_title, colour(phase)) for phase in shown])


def _bucket_row(
    columns: Sequence[tuple[PhaseRecord, list[Bucket]]],
    title: str,
    top: float,
    bottom: float,
    measure: Callable[[Bucket], float | None],
) -> str:
    scale = Scale(0, 1, bottom, top)
    slot = (RIGHT - LEFT) / len(columns[0][1])
    width = min(44.0, slot * 0.7 / len(columns))
    bars, hovers = [axis_y(scale, [0, 0.5, 1], title, as_percent=True, title_y=top - 20)], []
    for column, (model, buckets) in enumerate(columns):
        for index, bucket in enumerate(buckets):
            x = LEFT + slot * (index + 0.5) + (column - len(columns) / 2) * width
            value = measure(bucket)
            printed = "–" if value is None else f"{100 * value:.0f}"
            y = scale(value or 0.0)
            bars.append(_bar(x, y, width, bottom, colour(model)))
            bars.append(element("text", text=printed, x=x + width / 2, y=y - 4, class_="value", text_anchor="middle"))
            lines = [f"{model.title}, {bucket.label} tokens", f"{bucket.count:,} responses ({percent(bucket.share)})"]
            if bucket.accuracy is not None:
                lines.append(f"{percent(bucket.accuracy)} correct")
            hovers.append(hover((x, top, width, bottom - top), (x + width / 2, y), lines))
    base = element("line", x1=LEFT, x2=RIGHT, y1=bottom, y2=bottom, class_="base")
    return "".join([*bars, base, *hovers])


def _bar(x: float, y: float, width: float, bottom: float, class_: str) -> str:
    return element("rect", x=x + 1, y=y, width=width - 2, height=max(0.0, bottom - y), rx=2, class_=f"bar {class_}")


def by_phase(run: Run) -> str:
    """(B) One bar per scored phase, with its standard error."""
    label = "Accuracy after each phase"
    if not run.scored:
        return empty(label, _NOT_SCORED)
    scale = _accuracy_scale(run.scored)
    slot = (RIGHT - LEFT) / len(run.scored)
    width = min(56.0, slot * 0.6)
    parts = [axis_y(scale, ticks(0, scale.high, 4), "accuracy", as_percent=True)]
    hovers = []
    for index, phase in enumerate(run.scored):
        middle = LEFT + slot * (index + 0.5)
        accuracy, error = phase.score.accuracy or 0.0, phase.score.standard_error or 0.0
        parts.append(_bar(middle - width / 2, scale(accuracy), width, BOTTOM, colour(phase)))
        if error:
            parts.append(error_bar(middle, scale(max(0.0, accuracy - error)), scale(accuracy + error)))
        top = scale(accuracy + error) - 6
        parts.append(element("text", text=f"{100 * accuracy:.1f}", x=middle, y=top, class_="value", text_anchor="middle"))
        name = first_that_fits((phase.title, phase.short_title), slot - 4)
        parts.append(element("text", text=name, x=middle, y=BOTTOM + 16, class_="tick", text_anchor="middle"))
        hovers.append(hover((middle - slot / 2, TOP, slot, BOTTOM - TOP), (middle, scale(accuracy)), _score_lines(phase)))
    base = element("line", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM, class_="base")
    return draw(label, *parts, base, axis_title("phase", (LEFT + RIGHT) / 2, BOTTOM + 35), *hovers)


def _accuracy_scale(scored: Sequence[PhaseRecord]) -> Scale:
    highest = max((phase.score.accuracy or 0.0) + (phase.score.standard_error or 0.0) for phase in scored)
    top = next(limit for limit in (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0) if highest * 1.1 <= limit or limit >= 1.0)
    # The number of a perfect score is above its bar, although the axis ends at 100 %.
    return Scale(0, top, BOTTOM, TOP + 8)


def _score_lines(phase: PhaseRecord) -> list[str]:
    accuracy, error = phase.score.accuracy or 0.0, phase.score.standard_error
    lines = [phase.title, f"accuracy {100 * accuracy:.1f}" + (f" ± {100 * error:.1f} %" if error is not None else " %")]
    if (length := phase.score.completion_tokens_mean) is not None:
        lines.append(f"mean length {length:,.0f} tokens")
    if (cut := phase.score.truncated_ratio) is not None:
        lines.append(f"{100 * cut:.1f} % cut at the limit")
    return lines


def words(run: Run) -> str:
    """(C) Occurrences of the words of table 4, one group of bars per word."""
    label = "Words of reflection"
    scored = [phase for phase in run.scored if phase.samples.outcomes]
    if not scored:
        return empty(label, _NOT_SCORED)
    highest = max(1, *(phase.samples.words[word] for phase in scored for word in REFLECTION_WORDS))
    scale = Scale(0, highest * 1.02, BOTTOM, TOP + 24)
    slot = (RIGHT - LEFT) / len(REFLECTION_WORDS)
    width = slot * 0.82 / len(scored)
    parts, hovers = [axis_y(scale, ticks(0, scale.high, 4, whole=True), "occurrences")], []
    for group, word in enumerate(REFLECTION_WORDS):
        left = LEFT + slot * (group + 0.09)
        for index, phase in enumerate(scored):
            count, x = phase.samples.words[word], left + index * width
            parts.append(_bar(x, scale(count), width, BOTTOM, colour(phase)))
            if width >= 10:
                parts.append(_upright(f"{count:,}", x + width / 2 + 3.5, scale(count) - 4))
            rate = count / len(phase.samples.outcomes)
            lines = [f"{word}, {phase.title}", f"{count:,} times", f"{rate:.2f} per response"]
            hovers.append(hover((x, TOP, width, BOTTOM - TOP), (x + width / 2, scale(count)), lines))
        parts.append(element("text", text=word, x=left + slot * 0.41, y=BOTTOM + 16, class_="tick", text_anchor="middle"))
    base = element("line", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM, class_="base")
    return draw(label, _legend(scored), *parts, base, axis_title("word", (LEFT + RIGHT) / 2, BOTTOM + 35), *hovers)


def _upright(number: str, x: float, y: float) -> str:
    """A number that reads upwards from (x, y). Used where a bar is narrower than its number."""
    return element("text", text=number, transform=f"translate({x:.1f} {y:.1f}) rotate(-90)", class_="value small")


def lengths(run: Run) -> str:
    """(D) Mean completion length over global steps, with each stage's limit."""
    label = "Mean completion length over steps"
    values = [value for stage in run.stages for _, value in series(stage, "completion_tokens_mean")]
    if not values:
        return empty(label, _NOT_TRAINED)
    begun = [phase.stage.max_completion_tokens for phase in run.phases if phase.stage and phase.steps]
    # A limit far above the curve would flatten it; then only its number is shown.
    top = max(1.0, *(v * 1.2 for v in values), *(limit * 1.08 for limit in begun if limit <= 3 * max(values)))
    y = Scale(0, top, BOTTOM, TOP)
    x = _step_scale(run)
    limits_drawn = []
    for stage, start, end in _spans(run):
        limit = stage.stage.max_completion_tokens if stage.stage else 0
        inside = limit <= top
        at = y(limit) if inside else TOP + 1.0
        number = short(limit) if inside else f"{short(limit)} ↑"
        name = first_that_fits((f"limit {number}", number), x(end) - x(start) - 4)
        if inside:
            limits_drawn.append(element("line", x1=x(start), x2=x(end), y1=at, y2=at, class_=f"limit {colour(stage)}"))
        below = at + 13 if at < TOP + 16 else at - 5
        limits_drawn.append(element("text", text=name, x=x(end) - 4, y=below, class_=f"note {colour(stage)}", text_anchor="end"))
    return _step_chart(run, label, "tokens", "completion_tokens_mean", x, y, limits_drawn, lambda v: f"{v:,.0f} tokens")


def rewards(run: Run) -> str:
    """(F) Mean reward over global steps."""
    label = "Mean reward over steps"
    values = [value for stage in run.stages for _, value in series(stage, "reward_mean")]
    if not values:
        return empty(label, _NOT_TRAINED)
    y = Scale(min(0.0, *values, 0.0), max(0.1, max(values) * 1.15), BOTTOM, TOP)
    return _step_chart(run, label, "reward", "reward_mean", _step_scale(run), y, [], lambda v: f"reward {v:.3f}")


def _step_chart(
    run: Run,
    label: str,
    unit: str,
    key: str,
    x: Scale,
    y: Scale,
    extra: Sequence[str],
    describe: Callable[[float], str],
) -> str:
    curves = [(stage, series(stage, key)) for stage in run.stages]
    window = smoothing_window(max(len(points) for _, points in curves))
    parts, hovers = [_bands(run, x), axis_y(y, ticks(y.low, y.high, 4), unit), *extra], []
    stride = sum(len(points) for _, points in curves) // _MOST_STRIPS + 1
    for stage, points in curves:
        drawn = [(x(step), y(value)) for step, value in points]
        if window > 1:
            parts.append(polyline(drawn, f"thin {colour(stage)}"))
            parts.append(polyline([(x(step), y(value)) for step, value in smooth(points, window)], colour(stage)))
        else:
            parts.append(polyline(drawn, colour(stage)))
        wide = max(3.0, (x(1) - x(0)) * stride)
        for step, value in points[::stride]:
            area = (x(step) - wide / 2, float(TOP), wide, float(BOTTOM - TOP))
            hovers.append(hover(area, (x(step), y(value)), [f"step {step:,}, {stage.title}", describe(value)]))
    return draw(label, *parts, axis_x(x, ticks(0, x.high, 6, whole=True), "global step"), *hovers)


def accuracy_curve(run: Run) -> str:
    """(E) Held-out accuracy at the global step of each scored checkpoint; the model before GRPO is at step 0."""
    label = "Held-out accuracy over steps"
    if not run.scored:
        return empty(label, _NOT_SCORED)
    x, y = _step_scale(run), _accuracy_scale(run.scored)
    places = [(phase, x(_global_step(phase)), y(phase.score.accuracy or 0.0)) for phase in run.scored]
    parts = [_bands(run, x), axis_y(y, ticks(0, y.high, 4), "accuracy", as_percent=True)]
    parts.append(element("polyline", points=" ".join(f"{px:.1f},{py:.1f}" for _, px, py in places), class_="line join"))
    roomy = all(right - left >= 34 for (_, left, _), (_, right, _) in pairwise(places))
    hovers = []
    for phase, px, py in places:
        accuracy, error = phase.score.accuracy or 0.0, phase.score.standard_error or 0.0
        if error:
            parts.append(error_bar(px, y(max(0.0, accuracy - error)), y(accuracy + error)))
        parts.append(element("circle", cx=px, cy=py, r=5, class_=f"dot {colour(phase)}"))
        if roomy or phase in (run.scored[0], run.scored[-1]):
            anchor = "start" if px < LEFT + 16 else "end" if px > RIGHT - 16 else "middle"
            top = y(accuracy + error) - 8
            parts.append(element("text", text=f"{100 * accuracy:.1f}", x=px, y=top, class_="value", text_anchor=anchor))
        hovers.append(hover((px - 14, TOP, 28, BOTTOM - TOP), (px, py), _score_lines(phase)))
    return draw(label, *parts, axis_x(x, ticks(0, x.high, 6, whole=True), "global step"), *hovers)


def _global_step(phase: PhaseRecord) -> int:
    return phase.score.step if phase.stage else 0


def _step_scale(run: Run) -> Scale:
    """Global steps from 0 to the last one on record, so that a running stage fills the width."""
    seen = [stage.steps[-1]["step"] for stage in run.stages if stage.steps] + [_global_step(phase) for phase in run.scored]
    return Scale(0, max([1, *seen]), LEFT, RIGHT)


def _spans(run: Run) -> list[tuple[PhaseRecord, int, int]]:
    first_steps = [phase.first_step for phase in stage_phases(run.recipe)]
    return spans(run.stages, first_steps, int(_step_scale(run).high)) if run.stages else []


def _bands(run: Run, x: Scale) -> str:
    """A tinted band with its name for each stage that has begun."""
    parts = []
    for stage, start, end in _spans(run):
        width = x(end) - x(start)
        parts.append(element("rect", x=x(start), y=TOP, width=width, height=BOTTOM - TOP, class_=f"band {colour(stage)}"))
        name = first_that_fits((stage.title, stage.short_title), width - 10)
        middle = x(start) + width / 2
        parts.append(element("text", text=name, x=middle, y=TOP - 5, class_=f"note {colour(stage)}", text_anchor="middle"))
    return "".join(parts)
