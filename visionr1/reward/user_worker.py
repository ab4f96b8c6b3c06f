"""The process of a user's reward function, started by `user.UserReward`."""

from __future__ import annotations

import importlib.util
import math
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from visionr1.reward.child import serve

PARTS: Final = ("overall", "format", "accuracy")
_TYPES: Final = ("batch", "sequential")


class Faulty(Exception):
    """What the file has or its function returns is not what the contract says."""


def main(path: str, name: str) -> None:
    try:
        module = _load(Path(path))
        function, sequential = _function(module, name), _sequential(module)
    except Exception as error:
        serve({"error": _described(error, path)}, lambda _: None)
        return
    ready = {"error": "", "sequential": sequential, "name": str(getattr(module, "REWARD_NAME", name))}
    serve(ready, lambda message: _graded(function, sequential, path, **message))


def _load(path: Path) -> ModuleType:
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location("user_reward", path)
    if spec is None or spec.loader is None:
        raise Faulty("not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _function(module: ModuleType, name: str) -> Callable[[Any], Any]:
    function: Callable[[Any], Any] | None = getattr(module, name, None)
    if not callable(function):
        raise Faulty(f"the file has no function {name}")
    return function


def _sequential(module: ModuleType) -> bool:
    kind = getattr(module, "REWARD_TYPE", "batch")
    if kind not in _TYPES:
        raise Faulty(f"REWARD_TYPE is {kind!r}, not 'batch' or 'sequential'")
    return bool(kind == "sequential")


def _graded(
    function: Callable[[Any], Any], sequential: bool, path: str, rows: list[dict[str, Any]], first: int
) -> dict[str, Any]:
    try:
        returned = [function(rows[0])] if sequential else function(rows)
        return {"error": "", "scores": checked(returned, len(rows), first)}
    except Exception as error:
        where = f"row {first}: " if sequential else ""
        return {"error": where + _described(error, path)}


def checked(returned: Any, rows: int, first: int) -> list[list[float]]:
    """[overall, format, accuracy] of each row. Raises Faulty, naming the row, if they are not finite numbers."""
    if not isinstance(returned, (list, tuple)):
        raise Faulty(f"returned {type(returned).__name__}, not a list of {rows} dicts")
    if len(returned) != rows:
        raise Faulty(f"returned {len(returned)} scores for {rows} rows")
    return [_parts(score, first + index) for index, score in enumerate(returned)]


def _parts(score: Any, row: int) -> list[float]:
    if not isinstance(score, dict):
        raise Faulty(f"row {row}: returned {type(score).__name__}, not a dict with {', '.join(PARTS)}")
    values = []
    for part in PARTS:
        if part not in score:
            raise Faulty(f"row {row}: no {part!r} in the returned dict")
        values.append(_finite(score[part], f"row {row}: {part!r}"))
    return values


def _finite(value: Any, what: str) -> float:
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if not math.isfinite(number):
        raise Faulty(f"{what} is {value!r}, not a finite number")
    return number


def _described(error: Exception, path: str) -> str:
    """The error in one line; of a user's own with the last line of the file that it passed."""
    if isinstance(error, Faulty):
        return str(error)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    place = f" (line {lines[-1]})" if lines else ""
    return " ".join(f"{type(error).__name__}: {error}".split()) + place


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
