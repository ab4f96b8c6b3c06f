"""Why the pods of an attempt do not run yet, from what the cluster reports of them and of their owners. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ptst_operator.world import Hindrance
from visionr1.errors import printable

Objects = Sequence[Mapping[str, Any]]

_CONTAINER: Final[dict[str, tuple[str, str]]] = {
    **dict.fromkeys(
        ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"),
        ("ImageUnavailable", "the image of pod {} cannot be pulled"),
    ),
    "CreateContainerConfigError": ("ConfigMissing", "a ConfigMap, a Secret or a key that pod {} names is missing"),
    **dict.fromkeys(
        ("CreateContainerError", "RunContainerError", "CrashLoopBackOff"),
        ("ContainerFails", "a container of pod {} does not start"),
    ),
}
"""Why a container waits: reason for the condition and what it means, by the kubelet's reason."""
_ON_NODE: Final[dict[str, tuple[str, str]]] = {
    "FailedMount": ("VolumeUnavailable", "a volume of pod {} cannot be mounted"),
    "FailedAttachVolume": ("VolumeUnavailable", "a volume of pod {} cannot be attached to its node"),
    "FailedCreatePodSandBox": ("NetworkUnavailable", "the network of pod {} cannot be set up"),
}
"""Events of a pod that has a node and does not run."""
_REFUSALS: Final[tuple[tuple[str, str, str], ...]] = (
    ("exceeded quota", "QuotaExceeded", "a quota of the namespace has no room for its pods"),
    ("failed quota", "QuotaExceeded", "a quota of the namespace takes only pods with requests or limits that these do not have"),
    ("failed calling webhook", "WebhookUnavailable", "an admission webhook that must see its pods does not answer"),
    ("admission webhook", "WebhookRefused", "an admission webhook refuses its pods"),
    ("violates PodSecurity", "PodSecurity", "the namespace's PodSecurity level refuses its pods"),
    ("is forbidden", "PodsRefused", "the API server refuses its pods"),
)
"""A part of the API server's words, the reason for the condition, and what it means. The first that fits counts."""
_LONGEST: Final = 400


def find_hindrance(names: Iterable[str], since: str, reported: str, pods: Objects, events: Objects) -> Hindrance | None:
    """The first thing that keeps an attempt's pods from running. None if nothing is known.

    Args:
        names: of the child and its RayCluster. What is made for them has names that begin with theirs.
        since: time of the attempt's start, in RFC 3339. Older events are of other attempts.
        reported: what the child's own status says of pods that could not be made.
        events: Warnings of the namespace.
    """
    prefixes = tuple(names)
    recent = sorted((one for one in events if _of(one, prefixes) and _when(one) >= since[:19]), key=_when, reverse=True)
    waiting = [pod for pod in pods if pod.get("status", {}).get("phase", "Pending") == "Pending"]
    if reported:
        return _refusal(reported)
    # An owner that has made a pod since it reported a fault has got over it.
    newest_pod = max((str(pod["metadata"].get("creationTimestamp", ""))[:19] for pod in pods), default="")
    owners = [one for one in recent if one["involvedObject"].get("kind") != "Pod" and _when(one) > newest_pod]
    if owners:
        return _refusal(str(owners[0].get("message", "")), str(owners[0].get("reason", "")))
    return next((found for pod in waiting if (found := _of_pod(pod, recent)) is not None), None)


def _of_pod(pod: Mapping[str, Any], events: Objects) -> Hindrance | None:
    name, status = str(pod["metadata"]["name"]), pod.get("status", {})
    for one in status.get("conditions", []):
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            if one.get("reason") == "SchedulingGated":
                return _made("SchedulingGated", f"pod {name} waits until its scheduling gates are removed", "")
            return _made("Unschedulable", f"no node can take pod {name}", str(one.get("message", "")))
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        state = container.get("state", {}).get("waiting", {})
        if state.get("reason") in _CONTAINER:
            reason, meaning = _CONTAINER[state["reason"]]
            return _made(reason, meaning.format(name), str(state.get("message") or state["reason"]))
    for event in events:
        if event["involvedObject"].get("name") == name and event.get("reason") in _ON_NODE:
            reason, meaning = _ON_NODE[event["reason"]]
            return _made(reason, meaning.format(name), str(event.get("message", "")))
    return None


def _refusal(message: str, event: str = "") -> Hindrance:
    """What the API server says of pods that it did not take. The name of a pod, which changes with each try, is left out."""
    for words, reason, meaning in _REFUSALS:
        if words in message:
            return _made(reason, meaning, message.partition(" is forbidden: ")[2] or message)
    if event == "Pending":
        return _made("WaitsForQueue", "its queue has no room for it", message)
    return _made("PodsRefused", "its pods cannot be made", message or event)


def _made(reason: str, meaning: str, details: str) -> Hindrance:
    short = printable(" ".join(details.split())[:_LONGEST])
    return Hindrance(reason, f"{meaning}: {short}" if short else meaning)


def _of(event: Mapping[str, Any], prefixes: tuple[str, ...]) -> bool:
    name = str(event.get("involvedObject", {}).get("name", ""))
    return any(name == prefix or name.startswith(f"{prefix}-") for prefix in prefixes)


def _when(event: Mapping[str, Any]) -> str:
    """When it last happened, to a second: clients write the time into different fields."""
    series = event.get("series") or {}
    found = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp")
    return str(found or event.get("metadata", {}).get("creationTimestamp", ""))[:19]
