"""The lines of the operator's log: text for people, or an object of JSON per line for a log store."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("text", "json")
_OURS: Final = ("ptst_operator", "visionr1")


class JsonLines(logging.Formatter):
    """One object per line: time (RFC 3339), level, logger, message, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up(level: str, shape: str) -> None:
    """Our own lines of this level and above go to stderr, in one of FORMATS. Of libraries, warnings and errors do.

    At the level debug, botocore writes a cloud's session tokens, and urllib3 addresses with signatures.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if shape == "json" else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    least = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(least, logging.WARNING), handlers=[handler], force=True)
    for name in _OURS:
        logging.getLogger(name).setLevel(least)
