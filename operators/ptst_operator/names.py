"""Names of the custom resource: its API, the annotation that people set, and the labels by which its parts are found."""

from __future__ import annotations

from typing import Any, Final

Manifest = dict[str, Any]
"""An object as the API server has it."""

GROUP: Final = "visionr1.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "PTSTRun"
PLURAL: Final = "ptstruns"

APPROVE: Final = f"{GROUP}/approve"
"""Annotation that lets a held phase begin (its name), or a run go on over the gate that stopped it (`breach-0`, ...)."""

RUN_LABEL: Final = f"{GROUP}/run"
PHASE_LABEL: Final = f"{GROUP}/phase"
ROLE_LABEL: Final = f"{GROUP}/role"
ATTEMPT_LABEL: Final = f"{GROUP}/attempt"
"""On pods of a RayCluster that an attempt has for itself: the attempt's child."""
