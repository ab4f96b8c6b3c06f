"""Errors for people, and the exit codes of a phase."""

from __future__ import annotations

from typing import Final

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
"""An error that may go away. The same command continues from the last committed checkpoint."""
EXIT_STOPPED: Final = 3
"""Stopped on request after a checkpoint. The same command continues from there."""
EXIT_FENCED: Final = 4
"""Another attempt has taken the run over. It is nobody's mistake, and is not counted as a failure."""
EXIT_BAD_INPUT: Final = 64
"""Bad recipe or data: trying again cannot help."""


def printable(text: str, keep: str = "") -> str:
    """Text that a stranger may have written, without characters that control a terminal; those in `keep` stay."""
    return "".join(sign if sign.isprintable() or sign in keep else ascii(sign)[1:-1] for sign in text)


class BadInput(Exception):
    """A mistake in a recipe, in data or on the command line.

    The message is shown as it is and must say what is wrong, where, and what to do.
    """


class Unreachable(Exception):
    """Something outside does not answer now; the same command may work later. The message is shown as it is."""


class Fenced(Exception):
    """Another attempt has taken the run over, so this one may not write any more. The message is shown as it is."""


class Stopped(Exception):
    """The phase was asked to stop and has committed a checkpoint."""
