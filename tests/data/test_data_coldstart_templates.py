"""The wording of the requests: which templates can work, and how their fields are filled."""

from pathlib import Path

import pytest

from visionr1.data.coldstart.templates import fill, load_templates
from visionr1.errors import BadInput


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("reasoning.txt", "{question}", "lacks {description}"),
        ("description.txt", "{question} {thinking process} {answer}", "has {answer}, which step description does not know"),
        ("other.txt", "x", "has none of pseudo_cot.txt, description.txt, description_alone.txt, anchored.txt, reasoning.txt"),
    ],
)
def test_templates_that_cannot_work_say_why(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=reason):
        load_templates(str(tmp_path))


def test_fields_are_filled_once() -> None:
    fields = {"question": "What is {answer} in {x}? \\1", "answer": "{question}"}
    assert fill("Q: {question} {y}\nA: {answer}", fields) == "Q: What is {answer} in {x}? \\1 {y}\nA: {question}"
    assert fill("Q: {question}\nA: {answer}", fields | {"answer": None}) == "Q: What is {answer} in {x}? \\1"
