"""`make generate` runs this."""

from __future__ import annotations

import sys

from generators import ROOT
from generators.files import files
from visionr1.errors import EXIT_BAD_INPUT, BadInput


def main() -> None:
    try:
        made = files()
    except BadInput as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    for path, content in made.items():
        (ROOT / path).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
