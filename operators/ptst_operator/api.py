"""The few calls of the Kubernetes API that the operator makes, through the transport of the official client.

The paths are known, so the operator does not ask which kinds there are. A cluster without KubeRay answers 404 when a
RayCluster is asked for. Reads have no resourceVersion, so the API server answers with the present state, not with a cached one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Final

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from ptst_operator.children import isolation
from ptst_operator.children.kind import ApiResource
from ptst_operator.children.table import RESOURCES
from ptst_operator.effects import RunEvent
from ptst_operator.names import API_VERSION, APPLY_DEFINITION, KIND, PLURAL, Manifest
from visionr1.errors import BadInput

FIELD_MANAGER: Final = "ptst-operator"
_SECONDS: Final = 20
_OLDER: Final = f"the definition is older than the operator: {APPLY_DEFINITION}"
_OWN_RESOURCES: Final = (
    ApiResource(KIND, API_VERSION, PLURAL),
    ApiResource("ConfigMap", "v1", "configmaps"),
    ApiResource("Pod", "v1", "pods"),
    ApiResource("Event", "v1", "events"),
    ApiResource("Lease", "coordination.k8s.io/v1", "leases"),
    ApiResource("CustomResourceDefinition", "apiextensions.k8s.io/v1", "customresourcedefinitions"),
    isolation.RESOURCE,
)
_RESOURCES: Final = {one.kind: one for one in _OWN_RESOURCES} | RESOURCES


class ApiError(Exception):
    """The API server refused a call, or did not answer (`status` is 0). The message is one line."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NameTaken(Exception):
    """Somebody else has an object with the name of one that a run needs. Trying again helps after a person has deleted it."""


class Api:
    """One namespace of one cluster, or all of them (`namespace` is empty)."""

    def __init__(self, namespace: str, transport: client.ApiClient, seconds: int = _SECONDS) -> None:
        self.namespace, self._transport, self._seconds = namespace, transport, seconds

    @staticmethod
    def connected(namespace: str) -> Api:
        """A connection by KUBECONFIG if it is set, else with the rights of the pod. Never through a proxy.

        The client takes HTTPS_PROXY from the environment and forgets NO_PROXY, which would cut an operator off its API server.

        Raises:
            BadInput: the pod has no token of its service account, or the file is wrong.
        """
        settings = client.Configuration()
        settings.retries = False  # otherwise urllib3 tries again, and blocks for as long as a Retry-After header asks
        try:
            config.load_config(client_configuration=settings)
        except config.ConfigException as error:
            raise BadInput(
                f"no way to the API server: {error} In a pod, mount the token of its service account "
                "(automountServiceAccountToken: true). Elsewhere, set KUBECONFIG."
            ) from None
        settings.proxy = None
        return Api(namespace, client.ApiClient(settings))

    def within(self, namespace: str) -> Api:
        """The same cluster, in this namespace."""
        return Api(namespace, self._transport, self._seconds)

    def waiting_for(self, seconds: int) -> Api:
        """The same, but a call fails that is not answered in this time."""
        return Api(self.namespace, self._transport, seconds)

    def get(self, kind: str, name: str) -> Manifest | None:
        """One object as it is now. None if it does not exist, or if the cluster does not have the kind."""
        try:
            return self._call("GET", f"{self._path(kind)}/{name}")
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def namespace_labels(self) -> dict[str, str]:
        """Labels of the namespace."""
        labels: dict[str, str] = self._call("GET", f"/api/v1/namespaces/{self.namespace}")["metadata"].get("labels", {})
        return labels

    def list(self, kind: str, selector: str = "", fields: str = "") -> Manifest:
        """Objects of a kind, as a List: all of them, or those with these labels and fields."""
        query = {"labelSelector": selector, "fieldSelector": fields}
        return self._call("GET", self._path(kind), query={key: value for key, value in query.items() if value})

    def serves(self, kind: str) -> bool:
        """Whether the API server has this kind."""
        try:
            self._call("GET", self._path(kind), query={"limit": "1"})
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def apply(self, manifest: Manifest, manager: str = FIELD_MANAGER) -> None:
        """Server-side apply, by default under the operator's own field manager."""
        path = f"{self._path(manifest['kind'])}/{manifest['metadata']['name']}"
        query = {"fieldManager": manager, "force": "true", "fieldValidation": "Strict"}
        self._call("PATCH", path, query, manifest, "application/apply-patch+yaml")

    def create(self, manifest: Manifest) -> None:
        """Creates an object, if there is none of its name (ApiError 409)."""
        self._call("POST", self._path(manifest["kind"]), {"fieldManager": FIELD_MANAGER}, manifest)

    def replace(self, manifest: Manifest) -> None:
        """Replaces an object, if nobody has written it since it was read (ApiError 409)."""
        self._call(
            "PUT", f"{self._path(manifest['kind'])}/{manifest['metadata']['name']}", {"fieldManager": FIELD_MANAGER}, manifest
        )

    def delete(self, kind: str, name: str, uid: str) -> None:
        """Deletes one object, if it still has this uid. It is gone before or after its pods, see `ApiResource.deletion`."""
        body = {"propagationPolicy": _RESOURCES[kind].deletion, "preconditions": {"uid": uid}}
        try:
            self._call("DELETE", f"{self._path(kind)}/{name}", body=body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    def write_status(self, run: Manifest, status: Manifest) -> None:
        """Replaces the status, if nobody has written the run since it was read (ApiError 409)."""
        body = {
            "apiVersion": run["apiVersion"],
            "kind": run["kind"],
            "metadata": {key: run["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")},
            "spec": run["spec"],
            "status": status,
        }
        path = f"{self._path(KIND)}/{run['metadata']['name']}/status"
        try:
            # An older definition would drop unknown fields, and the operator would write them again at every look.
            self._call("PUT", path, {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}, body)
        except ApiError as error:
            if not any(words in str(error) for words in ("unknown field", "Unsupported value")):
                raise
            raise ApiError(error.status, f"{error}; {_OLDER}") from error

    def post_event(self, run: Manifest, event: RunEvent, now: str) -> None:
        """An Event of the run."""
        meta = run["metadata"]
        self._call(
            "POST",
            self._path("Event"),
            body={
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"generateName": f"{meta['name']}.", "namespace": self.namespace},
                "involvedObject": {
                    "apiVersion": run["apiVersion"],
                    "kind": run["kind"],
                    "name": meta["name"],
                    "namespace": self.namespace,
                    "uid": meta["uid"],
                },
                "type": event.kind,
                "reason": event.reason,
                "message": event.message[:1024],
                "source": {"component": FIELD_MANAGER},
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
            },
        )

    def watch(self, kind: str, version: str, seconds: int) -> Iterator[Manifest]:
        """Yields the changes of a kind since `version`, for at most `seconds`.

        Raises:
            ApiError: 410 if `version` is too old.
        """
        query = {
            "watch": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
            "allowWatchBookmarks": "true",
        }
        response = self._send("GET", self._path(kind), query, None, "application/json", seconds + 10)
        try:
            for line in response:
                event: Manifest = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(int(event["object"].get("code", 0)), str(event["object"].get("message", "")))
                yield event
        except (HTTPError, ValueError) as error:  # the end of a line may be missing
            raise ApiError(0, f"watching {kind}: {error}") from error
        finally:
            response.release_conn()

    def _path(self, kind: str) -> str:
        return _RESOURCES[kind].path(self.namespace)

    def _call(
        self, method: str, path: str, query: dict[str, str] | None = None, body: Any = None, content: str = "application/json"
    ) -> Manifest:
        end = time.monotonic() + self._seconds
        try:
            return self._answer(method, path, query or {}, body, content, self._seconds)
        except ApiError as error:
            left = int(end - time.monotonic())
            # A load balancer may close a connection just when it is used again. A read is repeated without harm.
            if method != "GET" or error.status != 0 or left < 1:
                raise
        return self._answer(method, path, query or {}, body, content, left)

    def _answer(self, method: str, path: str, query: dict[str, str], body: Any, content: str, seconds: int) -> Manifest:
        response = self._send(method, path, query, body, content, seconds)
        try:
            made: Manifest = json.loads(response.read())
        except (HTTPError, ValueError) as error:
            raise ApiError(0, f"{method} {path}: {error}") from error
        return made

    def _send(self, method: str, path: str, query: dict[str, str], body: Any, content: str, seconds: int) -> Any:
        try:
            response = self._transport.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params={"Accept": "application/json", "Content-Type": content},
                body=body,
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _preload_content=False,
                _request_timeout=(min(5, seconds), seconds),
            )
        except client.ApiException as error:
            raise ApiError(error.status, _message(error)) from None
        except HTTPError as error:
            raise ApiError(0, f"{method} {path}: {error}") from error
        return response


def _message(error: client.ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, TypeError, LookupError):
        return f"{error.status} {error.reason}"
