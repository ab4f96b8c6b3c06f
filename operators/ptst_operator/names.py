"""Names of the custom resource: its API, the annotation that people set, and the labels of its parts."""

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
"""Annotation for approval: a phase's name starts that phase. `breach-0`, ... lets the run continue after that breach."""

RUN_LABEL: Final = f"{GROUP}/run"
PHASE_LABEL: Final = f"{GROUP}/phase"
ROLE_LABEL: Final = f"{GROUP}/role"
ATTEMPT_LABEL: Final = f"{GROUP}/attempt"
"""On pods of a RayCluster that an attempt has for itself: the attempt's child."""

ENFORCE: Final = "pod-security.kubernetes.io/enforce"
"""Label of a namespace: the Pod Security level that its pods must keep to."""
HELM: Final = "helm"
"""Field manager of Helm 4, which refuses to install a chart whose definition has fields of another one."""
APPLY_DEFINITION: Final = f"kubectl apply --server-side --force-conflicts --field-manager={HELM} -f charts/visionr1-ptst/crds/"
"""How a person brings the definition up to date. It takes over fields that others have written."""


def name_taken(kind: str, name: str) -> str:
    """The message about an object of somebody else that has a name which a run needs."""
    return f"{kind} {name} exists and is not of this run; delete it, or give the run another name"
