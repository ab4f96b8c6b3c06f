"""One look at one run, and what follows: take in, look, decide, write the status, act. It may be killed at any point."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ptst_operator.act import Actor
from ptst_operator.api import Api, ApiError
from ptst_operator.decide.decide import decide
from ptst_operator.decide.events import events
from ptst_operator.decide.report import with_refused_recipe, without_look
from ptst_operator.effects import Apply
from ptst_operator.intake import take_in
from ptst_operator.look.look import look
from ptst_operator.names import KIND, Manifest
from ptst_operator.status import Status, moment, read_status, status_patch
from visionr1.errors import BadInput
from visionr1.storage import StorageError, Store, open_store

_BLIND_SECONDS: Final = 10.0
"""An API server that fails for a moment is not worth a word."""
Changed = Callable[[str, Status, Status], None]
"""Called with a run's name and its status before and after: once per look, and when another status is written."""


@dataclass
class Reconciler:
    """Does one look at a run. It remembers what it could not do or read, for the condition; a new operator does not need that.

    Attributes:
        isolates: whether each run gets a NetworkPolicy. Without the chart's policies it would keep KubeRay and the operator out.
        home: namespace of the operator's pod, or empty: see `take_in`.
    """

    api: Api
    changed: Changed = lambda name, before, after: None
    run_gone: Callable[[str], object] = lambda name: None
    clock: Callable[[], float] = time.time
    store: Callable[[str], Store] = open_store
    isolates: bool = False
    home: str = ""
    _actor: Actor = field(init=False)
    _blind_since: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._actor = Actor(self.api)

    def reconcile(self, name: str) -> float | None:
        """Does what a run needs now. Returns the latest time of the next look, in unix seconds.

        None leaves it to the watches and the resync. Infinity means that the run is gone.

        Raises:
            ApiError, NameTaken, StorageError: it could not be done now; try again later.
        """
        manifest = self.api.get(KIND, name)
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            self.gone(name)  # Kubernetes deletes its children; checkpoints stay
            return math.inf
        before = read_status(manifest)
        self.changed(name, before, before)  # a new operator has no metrics yet, and this status may never change
        now = self.clock()
        try:
            taken = take_in(self.api, self.store, manifest, before, self.home)
            if taken is None:
                return None
            wanted, store = taken
            world = look(self.api, wanted, before, store, self._actor.refused.get(name))
        except BadInput as error:
            generation = manifest["metadata"]["generation"]
            self._write(manifest, before, with_refused_recipe(before, generation, str(error), now))
            return None
        except StorageError as error:
            self._write(manifest, before, without_look(before, "StorageUnavailable", str(error), now))
            raise
        except ApiError as error:
            if now >= self._blind_since.setdefault(name, now) + _BLIND_SECONDS:
                why = f"cannot read what belongs to the run: {error}"
                self._write(manifest, before, without_look(before, "ClusterUnreadable", why, now))
            raise
        self._blind_since.pop(name, None)
        decision = decide(wanted, before, world, now)
        self._write(manifest, before, decision.status)
        makes_pods = any(isinstance(effect, Apply) for effect in decision.effects)
        if self.isolates and makes_pods:
            self._actor.isolate(wanted.run)
        self._actor.act(name, decision.effects, store, wanted.run.recipe)
        if self.isolates and not makes_pods:  # afterwards: a policy that is refused keeps nobody from stopping the run
            self._actor.isolate_once(wanted.run)
        return now if decision.status != before else decision.look_at

    def gone(self, name: str) -> None:
        """Forgets a run that was deleted."""
        self._actor.forget(name)
        self._blind_since.pop(name, None)
        self.run_gone(name)

    def _write(self, manifest: Manifest, before: Status, status: Status) -> None:
        if status == before:
            return
        name = manifest["metadata"]["name"]
        self.api.write_status(manifest, status_patch(status))
        self.changed(name, before, status)
        for event in events(before, status):
            self.api.post_event(manifest, event, f"{moment(self.clock()):%Y-%m-%dT%H:%M:%SZ}")
