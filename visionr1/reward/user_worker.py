"""The process of a user's reward function, started by `user.UserReward`."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import reprlib
import sys
import time
import traceback
from collections.abc import Callable
from importlib.abc import ExecutionLoader
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from visionr1.child import serve

PARTS: Final = ("overall", "format", "accuracy")
_TYPES: Final = ("batch", "sequential")
_SEARCH_SECONDS: Final = 2.0


class Faulty(Exception):
    """What the file has or its function returns is not what the contract says."""


class _Source(ExecutionLoader):
    """A module from a text that has been read already. Python's own loader would read the file again, or a .pyc beside it."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._text = str(path), text

    def get_filename(self, fullname: str) -> str:
        return self._path

    def get_source(self, fullname: str) -> str:
        return self._text

    def is_package(self, fullname: str) -> bool:
        return False


def main(path: str, name: str, sha256: str | None = None) -> None:
    """Serves the function `name` of the file `path` until the parent closes the pipe. It runs no file with another `sha256`."""
    serve(lambda: _start(path, name, sha256))


def _start(path: str, name: str, sha256: str | None) -> tuple[object, Callable[[Any], object]]:
    try:
        module = _load(Path(path), sha256)
        function, sequential = _function(module, name), _sequential(module)
    except Exception as error:
        return {"error": _described(error, path)}, lambda _: None
    ready = {"error": "", "sequential": sequential, "name": str(getattr(module, "REWARD_NAME", name))}
    return ready, lambda message: _graded(function, sequential, path, **message)


def _load(path: Path, sha256: str | None) -> ModuleType:
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if sha256 is None:
        sys.path.insert(0, str(path.resolve().parent))
    elif sha256 != found:
        raise Faulty(f"the file has the SHA-256 {found}, and reward.sha256 is another; find out who has changed it")
    spec = importlib.util.spec_from_loader("user_reward", _Source(path, importlib.util.decode_source(data)))
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
    except Faulty as fault:
        return {"error": str(fault)}
    except Exception as error:
        where = f"row {first}" if len(rows) == 1 else _where_it_raises(function, rows, first)
        return {"error": f"{where}: {_described(error, path)}"}


def _where_it_raises(function: Callable[[Any], Any], rows: list[dict[str, Any]], first: int) -> str:
    """The first row that raises alone, looked for as long as `_SEARCH_SECONDS`; else all of them."""
    deadline = time.monotonic() + _SEARCH_SECONDS
    for index, row in enumerate(rows, start=first):
        if time.monotonic() > deadline:
            break
        try:
            function([row])
        except Exception:
            return f"row {index}"
    return f"rows {first} to {first + len(rows) - 1}"


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
    except (TypeError, ValueError, ArithmeticError, RuntimeError):
        number = math.nan
    if not math.isfinite(number):
        raise Faulty(f"{what} is {reprlib.repr(value)}, not a finite number")
    return number


def _described(error: Exception, path: str) -> str:
    """The error in one line; of a user's own with the last line of the file that it passed."""
    if isinstance(error, Faulty):
        return str(error)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    place = f" (line {lines[-1]})" if lines else ""
    return " ".join(f"{type(error).__name__}: {error}".split()) + place


if __name__ == "__main__":
    main(*sys.argv[1:])
