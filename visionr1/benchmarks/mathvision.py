r"""MATH-Vision (arXiv 2402.14804): 3,040 problems. Source of the rule: mathllm/MATH-V, commit a1f5cc3, `evaluation/`.

The rule works on small letters without blanks. It is not always wise: `\frac{\sqrt{3}}{6}` and `\frac{15+2\sqrt{3}}{64}` are the
same, since both are 0.29. Our strict rule stands beside it for that reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from visionr1.benchmarks.latex_value import latex_value
from visionr1.benchmarks.problem import Benchmark, Column, Draft, Problem, Rule, Same
from visionr1.data.options import LETTERS

_PHRASES: Final = tuple(
    start + phrase
    for phrase in ("he final answer is", "he answer is", "he correct answer is", "he answer should be")
    for start in "tT"
)
_BOX: Final = re.compile(r"oxed{(.*)}", re.DOTALL)
_LETTERS: Final = "abcde"
# In this order: each sees what the ones before it have left.
_AFTER_BOX: Final = (
    (" ", ""),
    ("\\,", ""),
    ("∞", "\\infty"),
    ("+\\infty", "\\infty"),
    ("\\\\", "\\"),
    ("\n", ""),
    ("\\text", ""),
    ("\\mbox", ""),
    ("bmatrix", "pmatrix"),
    ("\\left", ""),
    ("\\right", ""),
    ("^{\\circ}", ""),
    ("^\\circ", ""),
    ("{m}^3", ""),
    ("m^3", ""),
    ("{units}", ""),
    ("units", ""),
    ("{km}", ""),
    ("km", ""),
    ("\n", ""),
    ("\\!", ""),
    ("\\\\", "\\"),
    ("tfrac", "frac"),
    ("dfrac", "frac"),
    ("\\left", ""),
    ("\\right", ""),
    ("^{\\circ}", ""),
    ("^\\circ", ""),
    ("\\$", ""),
    ("$", ""),
    ("\\%", ""),
    ("{.", "{0."),
)


def read(problem: Problem, reply: str) -> str:
    """The answer in a reply: a letter at its beginning or its end, what follows a known phrase, or what is in the last box."""
    return _plain(_said(reply.strip()))


def _said(text: str) -> str:
    for letter in "ABCDE":
        if text.endswith((f" {letter}.", f" ({letter}).")) or text.startswith(
            (f"{letter}\n", f"({letter})\n", f"({letter}) {letter}\n")
        ):
            text = letter
    last = text.split("is ")[-1].rstrip(".")
    if _is_number(last):
        text = last
    if "oxed{" not in text:
        for phrase in _PHRASES:
            _, found, after = text.rpartition(phrase)
            text = after.strip().split("\n")[0].split(". ")[0] if found else text.strip()
    elif text.count("oxed{") > 1:
        text = "\\boxed{" + text.split("oxed{")[-1]
    return text


def _plain(text: str) -> str:
    text = text.lower().replace("{}", "")
    box = _BOX.search(text)
    text = box[1] if box else text
    closing, opening = text.find("}"), text.find("{")
    if closing != -1 and (opening == -1 or closing < opening):
        text = text[:closing]
    text = text.split("=")[-1].split("\\approx")[-1]
    for old, new in _AFTER_BOX:
        text = text.replace(old, new)
    text = _spelt(text)
    for brackets in ("()", "{}"):
        for letter in _LETTERS:
            text = text.replace(f"{brackets[0]}{letter}{brackets[1]}", letter)
    return text.rstrip(".").lstrip(":").strip()


def _spelt(text: str) -> str:
    """One spelling for decimals, roots and fractions."""
    if text.startswith("."):
        text = "0" + text
    if "sqrt" in text:
        text = _with_fraction_braces(re.sub(r"\\sqrt(?!\\sqrt)([^{])", r"\\sqrt{\1}", text).replace(" ", ""))
    if text == "0.5":
        return "\\frac{1}{2}"
    whole = re.fullmatch(r"(0|-?[1-9]\d*)/(0|-?[1-9]\d*)", text, re.ASCII)
    return f"\\frac{{{whole[1]}}}{{{whole[2]}}}" if whole else text


def _with_fraction_braces(text: str) -> str:
    r"""`\frac12` as `\frac{1}{2}`; a fraction that ends too soon leaves all of the text as it was."""
    first, *fractions = text.split("\\frac")
    parts = [first]
    for fraction in fractions:
        if fraction.startswith("{"):
            parts.append(fraction)
        elif len(fraction) < 2:
            return text
        elif fraction[1] == "{":
            parts.append(f"{{{fraction[0]}}}{fraction[1:]}")
        else:
            parts.append(f"{{{fraction[0]}}}{{{fraction[1]}}}{fraction[2:]}")
    return "\\frac".join(parts)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def right(problem: Problem, answer: str, same: Same) -> bool:
    """Whether the answer is the true one, or, of a multiple choice, the text of the true option."""
    truth = str(problem.facts["answer"])
    options = problem.facts["options"] or ()
    texts = [truth, options[ord(truth) - ord("A")]] if options else [truth]
    return any(_equal(text, answer) for text in texts)


def _equal(truth: str, answer: str) -> bool:
    truth, answer = truth.lower(), answer.lower()
    if not truth.replace(" ", "") or not answer.replace(" ", ""):
        return False
    if truth.strip() == answer.strip():
        return True
    truth, answer = _tuple_of_values(truth), _tuple_of_values(answer)
    if truth == answer:
        return True
    value, true_value = latex_value(answer), latex_value(truth)
    return value is not None and true_value is not None and round(value, 2) == round(true_value, 2)


_LARGEST: Final = 10**400
"""Python writes no whole number of more than 4,300 digits."""


def _tuple_of_values(text: str) -> str:
    """`(1/2,3)` with each value to two decimals; a text that is no tuple, or has a part without a value, as it is."""
    parts = text[1:-1].split(",")
    if text[0] + text[-1] not in ("()", "[]") or len(parts) < 2:
        return text
    values = []
    for part in parts:
        if "infty" in part or part in ("a", "-a"):
            values.append(part)
        elif (value := latex_value(part)) is None or abs(value) >= _LARGEST:
            return text
        else:
            values.append(str(round(value, 2)))
    return f"{text[0]}{','.join(values)}{text[-1]}"


RULE: Final = Rule("letter-or-value", 1, read, read, right)
_PICTURE: Final = re.compile(r"<image\d*>")


def draft(cells: Mapping[str, Any], place: int) -> Draft:
    """A problem of a row."""
    choices = tuple(cells["options"] or ())
    if choices and cells["answer"] not in tuple(LETTERS[: len(choices)]):
        raise ValueError(f"the answer {cells['answer']!r} is none of the {len(choices)} options")
    listed = "\n".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    question = _PICTURE.sub("", cells["question"]).strip()
    return Draft(str(cells["id"]), question, listed, cells["answer"], choices, cells["image"])


MATHVISION: Final = Benchmark(
    name="mathvision",
    title="MATH-Vision",
    sources=("hf://MathLLMs/MathVision@test",),
    sizes={"test": 3040, "testmini": 304},
    columns={
        "id": Column(("id",), "any"),
        "question": Column(("question",), "text"),
        "image": Column(("decoded_image", "image"), "picture"),
        "options": Column(("options",), "texts"),
        "answer": Column(("answer",), "text"),
    },
    draft=draft,
    rule=RULE,
)
