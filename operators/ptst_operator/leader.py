"""Which of several operator pods works: the one that holds a Lease of coordination.k8s.io.

The election is that of the official client, which itself keeps its record in a ConfigMap. It compares what it sees of the record
with its own clock alone, so clocks of pods may differ. Should two operators work for a moment, neither overwrites a status that
the other has written.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.leaderelectionrecord import LeaderElectionRecord

from ptst_operator.api import Api, ApiError
from ptst_operator.names import Manifest

LEASE_SECONDS: Final = 15
"""A pod that has not renewed its lease for this long has lost it."""
_RENEW_SECONDS: Final = 8
_RETRY_SECONDS: Final = 2
_ANSWER_SECONDS: Final = 2
"""How long a call may wait. The holder's last try makes two, and must be over before another pod may work."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NoLease:
    """Why a Lease could not be read, as the client's election expects it: `body` is JSON with a `code`."""

    body: str
    reason: str


class LeaseLock:
    """A Lease, with the methods that the client's election calls. `identity` is the pod's name."""

    def __init__(self, api: Api, name: str, identity: str) -> None:
        self.name, self.namespace, self.identity = name, api.namespace, identity
        self._api = api.waiting_for(_ANSWER_SECONDS)
        self._seen: Manifest = {}
        self._given_up = threading.Event()

    def get(self, name: str, namespace: str) -> tuple[bool, LeaderElectionRecord | NoLease]:
        """Whether the Lease is there, and who holds it; else why it is not known."""
        try:
            found = self._api.get("Lease", name)
        except ApiError as error:
            return False, NoLease(json.dumps({"code": error.status}), str(error))
        if found is None:
            return False, NoLease(json.dumps({"code": 404}), "Not Found")
        self._seen = found
        spec = found["spec"]
        times = (spec.get(key) for key in ("leaseDurationSeconds", "acquireTime", "renewTime"))
        return True, LeaderElectionRecord(spec.get("holderIdentity"), *times)

    def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Takes a Lease that nobody has had. False if another pod was first."""
        return self._write(
            self._api.create, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}}
        )

    def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Takes or renews the Lease that was read last. False if somebody has written it since."""
        return self._write(self._api.replace, self._seen)

    def release(self) -> None:
        """Gives the Lease back, so that another pod need not wait until it ends."""
        self._given_up.set()
        held, record = self.get(self.name, self.namespace)
        if held and isinstance(record, LeaderElectionRecord) and record.holder_identity == self.identity:
            spec = {key: value for key, value in self._seen["spec"].items() if key != "holderIdentity"}
            try:
                self._api.replace({**self._seen, "spec": spec})
            except ApiError as error:
                _log.warning("the lease could not be given back, another pod takes it in %d s: %s", LEASE_SECONDS, error)

    def _write(self, write: Callable[[Manifest], None], lease: Manifest) -> bool:
        if self._given_up.is_set():
            return False
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        before = lease.get("spec", {})
        spec = {**before, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}
        if before.get("holderIdentity") != self.identity:
            changes = before.get("leaseTransitions", -1) + 1
            spec |= {"holderIdentity": self.identity, "acquireTime": now, "leaseTransitions": changes}
        try:
            write({**lease, "spec": spec})
        except ApiError as error:
            if error.status != 409:  # 409: another pod was faster
                _log.warning("lease %s: %s", self.name, error)
            return False
        return True


def campaign(lock: LeaseLock, won: Callable[[], object], lost: Callable[[], object]) -> None:
    """Begins to ask for the Lease, in a thread. `won` is called when it is held, and `lost` if it is not renewed any more."""
    election = electionconfig.Config(lock, LEASE_SECONDS, _RENEW_SECONDS, _RETRY_SECONDS, won, lambda: None)

    def elect() -> None:
        try:
            leaderelection.LeaderElection(election).run()
        except Exception:
            _log.exception("lease %s: a bug in the election", lock.name)
        finally:
            lost()  # without the election nobody renews the lease, whatever has ended it

    threading.Thread(target=elect, name="leader", daemon=True).start()
