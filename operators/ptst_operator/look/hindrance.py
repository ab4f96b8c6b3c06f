"""Why the pods of an attempt do not run yet, from what the cluster reports of them and of their owners. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
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
        ("CreateContainerError", "RunContainerError"),
        ("ContainerFails", "a container of pod {} does not start"),
    ),
    "CrashLoopBackOff": ("ContainerFails", "a container of pod {} ends again and again"),
}
"""Why a container waits: reason for the condition and what it means, by the kubelet's reason."""
_ON_NODE: Final[dict[str, tuple[str, str]]] = {
    **dict.fromkeys(("FailedMount", "FailedMapVolume"), ("VolumeUnavailable", "a volume of pod {} cannot be mounted")),
    "FailedAttachVolume": ("VolumeUnavailable", "a volume of pod {} cannot be attached to its node"),
    **dict.fromkeys(
        ("FailedCreatePodSandBox", "NetworkNotReady"), ("NetworkUnavailable", "the network of pod {} cannot be set up")
    ),
    "FailedCreatePodContainer": ("ContainerFails", "a container of pod {} does not start"),
}
"""Events of a pod that has a node and does not run."""
_BY_NODE: Final = (
    *("UnexpectedAdmissionError", "TopologyAffinityError", "NodeAffinity", "NodeShutdown", "OutOf"),
    *("Evicted", "Preempting"),
)
"""How the kubelet's words begin for a pod that it refuses or evicts. `OutOf` goes on with the name of a resource."""
_REFUSALS: Final[tuple[tuple[str, str, str], ...]] = (
    ("exceeded quota", "QuotaExceeded", "a quota of the namespace has no room for its pods"),
    ("failed quota", "QuotaExceeded", "a quota of the namespace takes only pods with requests or limits that these do not have"),
    ("failed calling webhook", "WebhookUnavailable", "an admission webhook that must see its pods does not answer"),
    ("admission webhook", "WebhookRefused", "an admission webhook refuses its pods"),
    ("violates PodSecurity", "PodSecurity", "the namespace's PodSecurity level refuses its pods"),
    ("is forbidden", "PodsRefused", "the API server refuses its pods"),
)
"""A part of the API server's words, the reason for the condition, and what it means. The first that fits counts."""
_NO_OWNERS: Final = ("Pod", "Service", "Endpoints", "EndpointSlice")
"""Kinds of which an event says nothing about pods that cannot be made."""
_GATED: Final = "SchedulingGated"
_CLOCKS: Final = timedelta(seconds=30)
"""So far behind the API server's clock may be that of a node, a queue or a controller."""
_LONGEST: Final = 400


def find_hindrance(names: Iterable[str], created: str, reported: str, pods: Objects, events: Objects) -> Hindrance | None:
    """The first thing that keeps an attempt's pods from running. None if nothing is known.

    What a pod shows itself is surely so now. What an owner has reported may be over, and the last signs may be none at all.

    Args:
        names: of the child and its RayCluster. What is made for them has names that begin with theirs.
        created: time at which the child or RayCluster was made, in RFC 3339. Older events are of others of its name.
        reported: what the child's own status says of pods that could not be made.
        events: Warnings of the namespace.
    """
    prefixes, since = tuple(names), with_clocks(created)
    recent = sorted((one for one in events if _of(one, prefixes) and _when(one) >= since), key=_when, reverse=True)
    waiting = [pod for pod in pods if _waits(pod)]
    if (found := _first(_of_pod, waiting, recent) or ended_by_node(pods)) is not None:
        return found
    if reported:
        return _refusal(reported)
    # An owner that has made a pod since it reported a fault has got over it.
    newest_pod = max((_created(pod) for pod in pods), default="")
    owners = [one for one in recent if _is_of_owner(one) and _when(one) > newest_pod]
    if owners:
        return _of_owner(owners[0])
    return _event_of_node(pods, recent) or _first(_sign_of_pod, waiting, recent)


def ended_by_node(pods: Objects) -> Hindrance | None:
    """How a node has refused or evicted the newest of these pods that it did. A pod that failed by itself has no such reason."""
    ended = [pod for pod in pods if _phase(pod) == "Failed" and pod["status"].get("reason")]
    if not ended:
        return None
    newest = max(ended, key=_created)
    status, node = newest["status"], newest.get("spec", {}).get("nodeName", "")
    return _of_node(str(status["reason"]), str(node), str(status.get("message", "")))


def _event_of_node(pods: Objects, events: Objects) -> Hindrance | None:
    """The same of a pod that is gone: KubeRay makes another one at once. It is over when a node has taken that one."""
    there = [pod for pod in pods if _phase(pod) != "Failed" and "containerStatuses" in pod.get("status", {})]
    taken = max((_created(pod) for pod in there), default="")
    for event in events:
        of_pod = event["involvedObject"].get("kind") == "Pod"
        if of_pod and str(event.get("reason", "")).startswith(_BY_NODE) and _when(event) > taken:
            node = event.get("source", {}).get("host") or event.get("reportingInstance", "")
            return _of_node(str(event["reason"]), str(node), str(event.get("message", "")))
    return None


def _of_node(reason: str, node: str, message: str) -> Hindrance:
    """Without the name of the pod, which changes with each try, and in the same words from the pod and from its event."""
    where, why = f"{reason} on {node}" if node else reason, message.removeprefix("Pod was rejected: ")
    return _made("NodeRefuses", "a node has refused or evicted a pod", f"{where}: {why}" if why else where)


def with_clocks(created: str) -> str:
    """That time, to a second, as early as a clock may show it that is behind the API server's."""
    return f"{datetime.fromisoformat(created) - _CLOCKS:%Y-%m-%dT%H:%M:%S}" if created else ""


def _first(
    look: Callable[[Mapping[str, Any], Objects], Hindrance | None], pods: Iterable[Mapping[str, Any]], events: Objects
) -> Hindrance | None:
    """What `look` finds of the first pod of which it finds anything, among the events of that pod."""
    for pod in pods:
        name = pod["metadata"]["name"]
        found = look(pod, [one for one in events if one["involvedObject"].get("name") == name])
        if found is not None:
            return found
    return None


def _waits(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is neither ready, over nor being deleted. One that restarts a container again and again has begun to run."""
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in _conditions(pod))
    return _phase(pod) in ("Pending", "Running", "Unknown") and not ready and "deletionTimestamp" not in pod["metadata"]


def _of_pod(pod: Mapping[str, Any], events: Objects) -> Hindrance | None:
    """What surely keeps a pod back, from itself and from its node."""
    name, status = str(pod["metadata"]["name"]), pod.get("status", {})
    for one in _conditions(pod):
        if one.get("type") == "PodScheduled" and one.get("status") == "False" and one.get("reason") != _GATED:
            return _made("Unschedulable", f"no node can take pod {name}", str(one.get("message", "")))
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        state = container.get("state", {}).get("waiting", {})
        if state.get("reason") in _CONTAINER:
            reason, meaning = _CONTAINER[state["reason"]]
            details = _last_end(container) or str(state.get("message") or state["reason"])
            return _made(reason, meaning.format(name), details)
    for event in events if _phase(pod) == "Pending" else ():
        if event.get("reason") in _ON_NODE:
            reason, meaning = _ON_NODE[event["reason"]]
            return _made(reason, meaning.format(name), str(event.get("message", "")))
    return None


def _last_end(container: Mapping[str, Any]) -> str:
    """How a container that is started again has ended last. Empty if it is not known."""
    ended = container.get("lastState", {}).get("terminated", {})
    if "exitCode" not in ended:
        return ""
    return f"its last exit code is {ended['exitCode']}" + (f" ({ended['reason']})" if ended.get("reason") else "")


def _sign_of_pod(pod: Mapping[str, Any], events: Objects) -> Hindrance | None:
    """What may keep a pod back, or is over in a moment."""
    name, conditions = str(pod["metadata"]["name"]), _conditions(pod)
    unhealthy = [str(one.get("message", "")) for one in events if one.get("reason") == "Unhealthy"]
    if unhealthy and _phase(pod) != "Pending":
        # Not the newest: probes report in turn, and each look would write another status.
        return _made("NotReady", f"pod {name} runs but does not get ready", min(unhealthy))
    scheduled = [one for one in conditions if one.get("type") == "PodScheduled"]
    if any(one.get("reason") == _GATED for one in scheduled):
        return _made("SchedulingGated", f"pod {name} waits until its scheduling gates are removed", "")
    if _phase(pod) == "Pending" and not scheduled and not pod.get("spec", {}).get("nodeName"):
        scheduler = pod.get("spec", {}).get("schedulerName") or "default-scheduler"
        return _made("Unschedulable", f"no scheduler has looked at pod {name}", f"its schedulerName is {scheduler}")
    return None


def _phase(pod: Mapping[str, Any]) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


def _created(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"].get("creationTimestamp", ""))[:19]


def _conditions(pod: Mapping[str, Any]) -> Objects:
    conditions: Objects = pod.get("status", {}).get("conditions", [])
    return conditions


def _is_of_owner(event: Mapping[str, Any]) -> bool:
    """Whether an event is about what makes the pods. An object that was updated too late is updated again at once."""
    kind, reason = event["involvedObject"].get("kind"), str(event.get("reason", ""))
    return kind not in _NO_OWNERS and not reason.startswith("FailedToUpdate")


def _of_owner(event: Mapping[str, Any]) -> Hindrance:
    message, reason = str(event.get("message", "")), str(event.get("reason", ""))
    if event["involvedObject"].get("kind") == "PodGroup" and reason == "Unschedulable":
        return _made("Unschedulable", "the scheduler cannot place its pods together", message)
    return _refusal(message, reason)


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
