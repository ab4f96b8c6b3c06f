"""No room but this one builds a name in a run directory."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import visionr1
from visionr1.rundir import layout

PRODUCT = Path(visionr1.__file__).parent
OPERATOR = PRODUCT.parent / "operators" / "ptst_operator"
FOLDERS = re.compile(r"(phases|checkpoints|rollouts|eval|coldstart|stop|rolled-back)/(\S|$)")
PARTS = re.compile(r"/?attempt-(\d|$)")
FILES = {
    layout.RECIPE,
    layout.STEPS,
    layout.REPORT,
    layout.SUMMARY,
    layout.MANIFEST,
    layout.PROGRESS,
    layout.LOCK,
    "attempt.json",
    "log.txt",
}
OTHERS = {
    "ptst_operator/spec.py: recipe.yaml",  # the key of a ConfigMap, which has no run directory
    "visionr1/watch/ptst.py: recipe.yaml",
}


def built(file: Path) -> Iterator[str]:
    """Texts in a file that look like names in a run directory, docstrings left out."""
    tree = ast.parse(file.read_text())
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            text = node.value
            if FOLDERS.match(text) or PARTS.match(text) or text in FILES:
                yield text


def test_names_come_from_layout() -> None:
    files = [*PRODUCT.rglob("*.py"), *OPERATOR.rglob("*.py")]
    assert len(files) > 100
    found = {
        f"{file.relative_to(PRODUCT.parent if PRODUCT in file.parents else OPERATOR.parent).as_posix()}: {text}"
        for file in files
        if file.parent != PRODUCT / "rundir"
        for text in built(file)
    }
    assert found - OTHERS == set()


def test_names_by_hand_are_seen(tmp_path: Path) -> None:
    file = tmp_path / "room.py"
    file.write_text(
        '"""steps.jsonl"""\nkey = f"eval/{phase}.json"\nother = "summary.json"\nlog = f"phases/{phase}/attempt-{n}"\n'
    )
    assert list(built(file)) == ["summary.json", "eval/", "phases/", "/attempt-"]
