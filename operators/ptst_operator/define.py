"""Brings the definition of PTSTRun on a cluster to this version: `python -m ptst_operator.define`.

Helm installs what is in a chart's crds/ once and never changes it. So a Job of the chart calls this before each upgrade. It may
read and change this one definition, and nothing else.

Helm 4 applies crds/ at each install, also for another team, and is refused where another field manager has written. So all who
write the definition do it by server-side apply under Helm's name.
"""

from __future__ import annotations

import re
import sys

from ptst_operator.api import Api, ApiError
from ptst_operator.crd import VERSION_LABEL, definition
from ptst_operator.names import APPLY_DEFINITION, HELM, Manifest
from visionr1.errors import EXIT_BAD_INPUT, BadInput


def bring_up_to_date(api: Api) -> str:
    """Brings the definition to this version, unless it is a newer one. Returns what was done, for people.

    Raises:
        ApiError: the API server refused it, or somebody else changed the definition in the meantime.
    """
    wanted = definition()
    name, version = wanted["metadata"]["name"], _version(wanted)
    there = api.get("CustomResourceDefinition", name)
    if there is None:
        # Argo CD runs this before its first sync, too, which brings the definition itself.
        return f"there is no definition {name} yet: what installs the chart brings it ({APPLY_DEFINITION})"
    if _numbers(_version(there)) > _numbers(version):
        return f"{name} is of the newer version {_version(there)}, and this is {version}: it stays as it is"
    # With the resourceVersion, a newer one that somebody brings in this moment is not overwritten (ApiError 409).
    seen = {"resourceVersion": there["metadata"]["resourceVersion"]}
    api.apply({**wanted, "metadata": {**wanted["metadata"], **seen}}, manager=HELM)
    return f"{name} is of version {version} now"


def _version(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("labels", {}).get(VERSION_LABEL, "0"))


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def main() -> int:
    """Entry point of the Job."""
    try:
        print(bring_up_to_date(Api.connected("")))
    except ApiError as error:
        print(f"the definition could not be changed: {error}; do it by hand: {APPLY_DEFINITION}", file=sys.stderr)
        return 1
    except BadInput as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
