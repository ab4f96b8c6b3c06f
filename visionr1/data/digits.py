"""Problems for the demo: pictures of real handwritten digits, and questions about them.

The digits are the 1,797 scans (8 x 8, ink 0 to 16) that scikit-learn ships. Two or three of them
are side by side in one picture of 56 pixels height: with patches of 14 pixels and a merge of 2,
a digit costs 4 image tokens. The scans are split once into train and held-out, so a held-out
picture has no scan that was ever trained on.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, overload

from visionr1.data.rows import IMAGE_MARK, Row
from visionr1.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

Split = Literal["train", "held-out"]
SPLIT_SIZES: Final[dict[Split, int]] = {"train": 6000, "held-out": 512}
HELD_OUT_SCANS: Final = 300

CELL: Final = 56
"""Sides of one digit's square in pixels, two image tokens."""
_SCAN: Final = 8
_DRAWN: Final = 50
"""Pixels that a scan's 8 are drawn on; the rest of the square is margin."""

PLACES: Final[dict[int, tuple[str, ...]]] = {2: ("Left", "Right"), 3: ("Left", "Middle", "Right")}
"""Names of the digits in a picture of two or three."""


@dataclass(frozen=True)
class Kind:
    """A kind of question: its words, its answer, and the working that leads from digits to answer.

    `working` takes the digits and the result that the writer (perhaps wrongly) arrived at.
    """

    question: str
    answer: Callable[[Sequence[int]], int]
    working: Callable[[Sequence[int], int], str]
    counts: tuple[int, ...] = (2, 3)
    steps: int = 1


HARD: Final = 0.09
"""How often a kind of several steps is asked, per step, for each time that one of a single step is."""
ADDITIONS: Final = (4, 5, 6, 8)
"""How often the right digit is added to the left one: each addition makes the right chain of thought longer."""


def _added(times: int) -> Kind:
    return Kind(
        f"Start at the left digit and add the right digit {times} times. Where do you end?",
        lambda digits: digits[0] + times * digits[1],
        lambda digits, result: _additions(digits, times, result),
        counts=(2,),
        steps=times,
    )


def _additions(digits: Sequence[int], times: int, result: int) -> str:
    start, step = digits
    totals = [start + step * done for done in range(times)]
    sums = zip(totals, [*totals[1:], result], strict=True)
    return " ".join(f"{left}: {total}+{step}={after}." for left, (total, after) in zip(range(times, 0, -1), sums, strict=True))


KINDS: Final[dict[str, Kind]] = {
    "sum": Kind("What is the sum of the digits?", sum, lambda digits, result: f"{'+'.join(map(str, digits))}={result}."),
    "difference": Kind(
        "What is the difference of the digits?",
        lambda digits: max(digits) - min(digits),
        lambda digits, result: f"{max(digits)}-{min(digits)}={result}.",
        counts=(2,),
    ),
    "largest": Kind("What is the largest digit?", max, lambda digits, result: f"Largest {result}."),
    "smallest": Kind("What is the smallest digit?", min, lambda digits, result: f"Smallest {result}."),
    "odd": Kind(
        "How many digits are odd?", lambda digits: sum(digit % 2 for digit in digits), lambda digits, result: f"Odd {result}."
    ),
    **{f"add {times} times": _added(times) for times in ADDITIONS},
}


def caption(digits: Sequence[int]) -> str:
    """`Left 3. Right 5.`: how a picture of these digits is read out."""
    return " ".join(f"{place} {digit}." for place, digit in zip(PLACES[len(digits)], digits, strict=True))


@cache
def scans(split: Split) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The scans of a split, ink_N88 (0 to 16), and their digits label_N; the split never changes."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    parts = train_test_split(
        bunch.images.astype("float32"), bunch.target, test_size=HELD_OUT_SCANS, stratify=bunch.target, random_state=0
    )
    return (parts[0], parts[2]) if split == "train" else (parts[1], parts[3])


def draw(ink_N88: NDArray[np.float32], augment: np.random.Generator | None = None) -> Image.Image:
    """The scans (ink 0 to 16) side by side, dark on white: an RGB picture, 56 pixels high and 56 wide for each scan.

    With a generator every scan is turned by up to 8 degrees, scaled and sheared by up to 8 %,
    shifted by up to 0.6 of its pixels, and gets noise of 0.7 of its 16 shades of ink.
    """
    import numpy as np
    from PIL import Image

    picture = Image.new("L", (CELL * len(ink_N88), CELL), 255)
    for place, ink in enumerate(ink_N88):
        to_scan = np.eye(2) * (_SCAN / _DRAWN)
        centre = np.full(2, _SCAN / 2)
        if augment is not None:
            to_scan = _distortion(augment) @ to_scan
            centre = centre + augment.uniform(-0.6, 0.6, 2)
            ink = ink + augment.normal(0, 0.7, ink.shape).astype("float32")
        offset = centre - to_scan @ np.full(2, CELL / 2)
        coefficients = (*to_scan[0], offset[0], *to_scan[1], offset[1])
        drawn = Image.fromarray(ink).transform(
            (CELL, CELL), Image.Transform.AFFINE, coefficients, resample=Image.Resampling.BICUBIC
        )
        shades = 255 - np.clip(np.asarray(drawn), 0, 16) * (255 / 16)
        picture.paste(Image.fromarray(shades.astype("uint8")), (CELL * place, 0))
    return picture.convert("RGB")


def _distortion(augment: np.random.Generator) -> NDArray[np.float64]:
    import numpy as np

    angle = np.deg2rad(augment.uniform(-8, 8))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.diag(augment.uniform(0.92, 1.08, 2))
    shear = np.array([[1.0, augment.uniform(-0.08, 0.08)], [0.0, 1.0]])
    result: NDArray[np.float64] = turn @ stretch @ shear
    return result


class Problems(Sequence[Row]):
    """The rows of a split, each made when it is asked for and always the same."""

    def __init__(self, split: Split, seed: int) -> None:
        self._split = split
        self._seed = seed

    def __len__(self) -> int:
        return SPLIT_SIZES[self._split]

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self._row(place) for place in range(*index.indices(len(self)))]
        return self._row(range(len(self))[index])

    def _row(self, index: int) -> Row:
        import numpy as np

        split_number = list(SPLIT_SIZES).index(self._split)
        random = np.random.default_rng([self._seed, split_number, index])
        ink_N88, label_N = scans(self._split)
        count = 3 if random.random() < 0.15 else 2
        asked = {name: HARD * kind.steps if kind.steps > 1 else 1.0 for name, kind in KINDS.items() if count in kind.counts}
        kind = KINDS[str(random.choice(list(asked), p=np.array(list(asked.values())) / sum(asked.values())))]
        usable = np.flatnonzero(label_N) if kind.steps > 1 else np.arange(len(label_N))
        chosen = random.choice(usable, size=count)
        picture = draw(ink_N88[chosen], random if self._split == "train" else None)
        png = io.BytesIO()
        picture.save(png, "PNG")
        return Row(
            id=f"digits-{self._split}-{self._seed}-{index}",
            problem=IMAGE_MARK + kind.question,
            images=(png.getvalue(),),
            answer=str(kind.answer([int(digit) for digit in label_N[chosen]])),
        )


def problems(split: str, seed: int = 0) -> Problems:
    """The problems of `train` (6,000, lightly augmented) or `held-out` (512, as scanned).

    Raises:
        BadInput: for another split's name.
    """
    if split == "train":
        return Problems("train", seed)
    if split == "held-out":
        return Problems("held-out", seed)
    raise BadInput(f"demo://digits has no split {split!r}: use demo://digits/train or demo://digits/held-out")


def export(split: str, folder: Path, rows: int) -> Path:
    """Write the first rows as `<folder>/<split>.parquet` in geometry3k's layout (images, problem, answer), to look at.

    Raises:
        BadInput: for another split's name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("images", pa.list_(image)), ("problem", pa.string()), ("answer", pa.string())])
    table = [
        {
            "images": [{"bytes": data, "path": f"{row.id}.png"} for data in row.images],
            "problem": row.problem,
            "answer": row.answer,
        }
        for row in problems(split)[:rows]
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{split}.parquet"
    pq.write_table(pa.Table.from_pylist(table, schema), path)
    return path
