"""docs/data.md says what the code does."""

from pathlib import Path

from visionr1.data import check, images, pictures, rows
from visionr1.data.badrow import REMEDIES

PAGE = (Path(__file__).parents[2] / "docs/data.md").read_text()


def table(heading: str) -> list[tuple[str, str]]:
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    return [(left.strip(), right.strip()) for left, right in cells]


def test_every_reason_stands_there_with_its_remedy() -> None:
    assert table("Why a row is left out")[1:] == list(REMEDIES.items())


def test_the_limits_are_those_of_the_code() -> None:
    assert dict(table("Limits")[1:]) == {
        "image formats, by content and not by file name": ", ".join(images.FORMATS),
        "image file": f"{pictures.MAX_IMAGE_BYTES >> 20} MiB",
        "pixels of an image": f"{images.MAX_IMAGE_PIXELS:,}",
        "images of a problem": str(rows.MAX_IMAGES),
        "longer side of an image": f"{images.MAX_ASPECT} times the shorter",
        "characters of a problem or an answer": f"{check.MAX_TEXT:,}",
        "characters of a chain of thought": f"{check.MAX_RESPONSE:,}",
    }
