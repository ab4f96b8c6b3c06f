"""Whether an answer means the same as the true one, and which rule says so.

A wrong reward teaches a wrong policy, so everything in doubt is wrong: an answer must *be* the true
one, whole; it is never searched for in a longer text. `judge` brings both sides into one spelling
(`text`), lets the letters of a multiple choice decide if there are any (`choice`), and asks of the truth which kind
it is, for the form of the truth decides what the answer has to be. The kinds, in the order they are tried:

* the same spelling (`maths`): words ignore case, algebra does not;
* a clock time (`clock`), a bearing (`bearing`), a range or a date (`spans`), a sum of units (`measure`), several marks (`marks`),
  lines and figures (`figures`);
* conditions: `x < 1 or x > 3` (`conditions`);
* several values in any order, right only if the truth has just these; tuples and intervals keep order and brackets;
* a name or an equation (`names`): `x = 5` is 5; of `a = b = c` every part must be right; a rounding after `≈` is not read;
* a ratio of three or more (`ratio`);
* a quantity (`measure`): a number with or without a unit; everything else mathematical is asked of `ask`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from visionr1.data.options import LETTERS
from visionr1.reward.bearing import same_bearing
from visionr1.reward.choice import given_choice, is_letter, names_another, read_choice, true_choice, true_place
from visionr1.reward.clock import same_time
from visionr1.reward.conditions import is_condition, same_conditions
from visionr1.reward.figures import same_figure
from visionr1.reward.marks import same_marks
from visionr1.reward.maths import same_algebra, same_spelling
from visionr1.reward.measure import same_quantity, same_sum_of_units
from visionr1.reward.names import assignment, colons_as_equals, same_name, unnamed
from visionr1.reward.ratio import same_ratio
from visionr1.reward.spans import same_date, same_range
from visionr1.reward.text import canonical, group, nesting, split_top
from visionr1.reward.verdict import Ask, Verdict, every

LONGEST: Final = 4096
"""Longer answers (characters) are right only if they are spelt as the truth."""
_DEEPEST: Final = 40
_LONGEST_FORM: Final = 300
"""A longer text is no time, range or the like."""

# A comma between a digit and exactly three digits belongs to a number.
_SEPARATOR: Final = re.compile(r",(?!\d{3}(?!\d))|(?<!\d),|;|(?<![A-Za-z\\])(?:or|and)(?![A-Za-z])")
_COMMA: Final = re.compile(r"[,;]")
_FORMS: Final = {
    "clock time": same_time,
    "bearing": same_bearing,
    "date": same_date,
    "range": same_range,
    "several marks": same_marks,
    "figure": same_figure,
}
"""Kinds of truth that are recognised by their form alone. Each gives None for a truth of another kind."""


def judge(answer: str, truth: str, ask: Ask, options: Sequence[str] = ()) -> Verdict:
    """Whether `answer` is `truth`, and by which rule; not known (None) if that takes an `ask` that knows.

    `options` are the texts of a multiple choice, in the order of its letters (`visionr1.data.options`).
    """
    if len(answer) > LONGEST or len(truth) > LONGEST:
        return Verdict(answer.split() == truth.split() != [], "spelling")
    given, true = canonical(answer), canonical(truth)
    texts = [canonical(option[:LONGEST]) for option in options]
    if not given or not true:
        return Verdict(False, "empty")
    if max(nesting(given), nesting(true)) > _DEEPEST:
        return Verdict(same_spelling(given, true), "spelling")
    place = true_place(true, texts)
    return _judge_choice(given, true, ask) if place is None else _judge_option(given, place, texts, ask)


def read_sides(answer: str, truth: str, options: Sequence[str] = ()) -> tuple[str, str]:
    """Both sides as `judge` compares them: in one spelling, the truth with its option's letter and text."""
    true, texts = canonical(truth), [canonical(option) for option in options]
    place = true_place(true, texts)
    return canonical(answer), true if place is None else f"{LETTERS[place]}. {texts[place]}"


def _judge_choice(given: str, true: str, ask: Ask) -> Verdict:
    """Where the options are not known."""
    true_letter, true_value = true_choice(true)
    if same_spelling(given, true) or same_spelling(given, true_value):
        return Verdict(True, "option text" if true_value else "letter" if true_letter else "spelling")
    letter, value = given_choice(given)
    if not true_letter:
        return same(value or given, true, ask)
    if not letter:
        return Verdict(same(given, true_value, ask).right, "option text") if true_value else Verdict(False, "letter")
    if letter != true_letter or not value or not true_value:
        return Verdict(letter == true_letter, "letter")
    return Verdict(same(value, true_value, ask).right, "letter and text")


def _judge_option(given: str, true: int, texts: Sequence[str], ask: Ask) -> Verdict:
    """Where they are known: the true option's letter, its text, or both."""
    letter, value = read_choice(given)
    place = LETTERS.index(letter) if letter else len(texts)
    if place >= len(texts):
        return _judge_text(given, true, texts, ask)
    if not value:
        return Verdict(place == true, "letter")
    spelt = [other for other, text in enumerate(texts) if same_spelling(value, text)]
    if place != true or (spelt and true not in spelt) or (not spelt and names_another(letter, value)):
        return Verdict(False, "letter and text")
    right = True if spelt or is_letter(texts[true]) else same(value, texts[true], ask).right
    return Verdict(right, "letter and text")


def _judge_text(given: str, true: int, texts: Sequence[str], ask: Ask) -> Verdict:
    """An answer without a letter: it must be the true option's text, and fit no other option as well."""
    spelt = [place for place, text in enumerate(texts) if same_spelling(given, text)]
    if spelt or is_letter(texts[true]):
        return Verdict(true in spelt, "option text")
    right = same(given, texts[true], ask).right
    others = [text for place, text in enumerate(texts) if place != true and not is_letter(text)] if right is not False else []
    fits = [same(given, text, ask).right for text in others]
    return Verdict(every((right, *(None if fit is None else not fit for fit in fits))), "option text")


def same(given: str, true: str, ask: Ask) -> Verdict:
    """Whether two canonical texts, neither of them a choice, mean the same."""
    given, true = colons_as_equals(_bare(given), _bare(true))
    if same_spelling(given, true):
        return Verdict(True, "spelling")
    if max(len(given), len(true)) <= _LONGEST_FORM and (verdict := _same_form(given, true)) is not None:
        return verdict
    values, true_values = _values(given), _values(true)
    if is_condition(true) or (is_condition(given) and true_values is None):
        return Verdict(same_conditions(given, true, ask), "condition")
    if values is not None or true_values is not None:
        return Verdict(_same_values(values or [given], true_values or [true], ask), "list")
    point, true_point = _tuple(given), _tuple(true)
    if point and true_point:
        return Verdict(point[0] == true_point[0] and _same_in_order(point[1], true_point[1], ask), "tuple")
    if assignment(given) != ("", [given]) or assignment(true) != ("", [true]):
        return _same_equation(given, true, ask)
    if (right := same_ratio(given, true, ask)) is not None:
        return Verdict(right, "ratio")
    return same_quantity(given, true, ask)


def _same_form(given: str, true: str) -> Verdict | None:
    """The verdict on a truth in one of the forms, or in several units; None for any other."""
    for rule, compare in _FORMS.items():
        if (right := compare(unnamed(given), true)) is not None:
            return Verdict(right, rule)
    return same_sum_of_units(given, true)


def _bare(text: str) -> str:
    r"""Without brackets round one value, `x \in` before a set, and a leading `=`, `≈` or `+`."""
    text = re.sub(r"^(?:=|\\approx|\+)\s*|^[a-zA-Z] ?\\in\s*(?=[(\[\\])", "", text).strip()
    held = group(text)
    while held and held[0] + held[2] in ("()", "{}") and len(split_top(held[1], _COMMA)) == 1:
        text = held[1]
        held = group(text)
    return text


def _values(text: str) -> list[str] | None:
    """The values of a list or set, `±` written out; None for a single value."""
    held = group(text)
    is_set = held is not None and held[0] == "{"
    parts = split_top(held[1], _COMMA) if held is not None and is_set else split_top(text, _SEPARATOR)
    parts = [value for part in parts for value in _plus_and_minus(part)]
    return parts if is_set or len(parts) > 1 else None


def _plus_and_minus(part: str) -> Iterator[str]:
    if part.count(r"\pm") != 1:
        yield part
        return
    for sign in "+-":
        yield _bare(part.replace(r"\pm", sign))


def _tuple(text: str) -> tuple[str, list[str]] | None:
    """(brackets, elements) of a point, vector or interval."""
    held = group(text)
    elements = split_top(held[1], _COMMA) if held else []
    return (held[0] + held[2], elements) if held and len(elements) > 1 else None


def _same_values(given: list[str], true: list[str], ask: Ask) -> bool | None:
    """The same values, each once, in any order; in order where only one side names them (`x=3, y=5` and `3, 5`)."""
    if len(given) != len(true):
        return False
    names, true_names = ({name for name, _ in map(assignment, values) if name} for values in (given, true))
    if (len(names) > 1 and not true_names) or (len(true_names) > 1 and not names):
        return _same_in_order(given, true, ask)
    unsure = False
    for true_value in true:
        verdicts = [same(value, true_value, ask).right for value in given]
        if True in verdicts:
            given = [value for index, value in enumerate(given) if index != verdicts.index(True)]
        elif None in verdicts:
            unsure = True
        else:
            return False
    return None if unsure else True


def _same_in_order(given: list[str], true: list[str], ask: Ask) -> bool | None:
    return len(given) == len(true) and every(same(*pair, ask).right for pair in zip(given, true, strict=True))


def _same_equation(given: str, true: str, ask: Ask) -> Verdict:
    name, values = assignment(given)
    true_name, true_values = assignment(true)
    if len(true_values) > 1 or (true_name and len(values) > 1):
        both_single = given.count("=") == true.count("=") == 1
        return Verdict(same_algebra(given, true, ask) if both_single else False, "equation")
    if name and true_name and not same_name(name, true_name):
        return Verdict(False, "name")
    verdicts = [same(value, true_values[0], ask) for value in values]
    return Verdict(every(verdict.right for verdict in verdicts), f"name, {verdicts[-1].rule}")
