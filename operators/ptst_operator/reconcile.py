"""One look at one run and what follows from it: read, decide, write the status, act. Safe to be killed anywhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from pydantic import ValidationError

from ptst_operator.api import Api, ApiError
from ptst_operator.children.pods import Manifest, Owner
from ptst_operator.conditions import news, refused, unreachable
from ptst_operator.decide import APPROVE, Apply, AskToStop, Decision, RollBack, Wanted, decide, recipe_hash, status_patch
from ptst_operator.observe import look
from ptst_operator.spec import RecipeSource, Spec, resolve_recipe
from ptst_operator.status import Status, moment
from visionr1.errors import BadInput
from visionr1.recipe import Recipe, stage_name
from visionr1.rundir.recipe import read_recipe, settle_recipe
from visionr1.rundir.rollback import roll_back
from visionr1.storage import StorageError, Store, open_store

Changed = Callable[[str, Status, Status], None]
"""Told a run's name and its status before and after: as it was found by each look, and once another one is written."""


@dataclass
class Reconciler:
    """Holds nothing that a new operator would miss: only what was last refused, for the condition."""

    api: Api
    changed: Changed = lambda name, before, after: None
    run_gone: Callable[[str], object] = lambda name: None
    clock: Callable[[], float] = time.time
    store: Callable[[str], Store] = open_store
    _refused: dict[str, str] = field(default_factory=dict)

    def reconcile(self, name: str) -> float | None:
        """Does what is to be done for a run now; gives when to look again at the latest, in unix seconds.

        None leaves it to the watches and the resync; infinity says that the run is gone.

        Raises:
            ApiError, StorageError: it could not be done now; trying again later is right.
        """
        run = self.api.get("PTSTRun", name)
        if run is None or "deletionTimestamp" in run["metadata"]:
            self.gone(name)  # its children go with it; checkpoints stay
            return math.inf
        before = Status.model_validate(run.get("status", {}))
        self.changed(name, before, before)  # an operator that starts again has metrics of no run, whose status may never change
        now = self.clock()
        try:
            taken = self._taken(run, before)
            if taken is None:
                return None
            wanted, store = taken
            world = look(self.api, wanted, before, store, self._refused.get(name))
        except BadInput as error:
            self._write(run, before, Decision(refused(before, run["metadata"]["generation"], str(error), now)))
            return None
        except StorageError as error:
            self._write(run, before, Decision(unreachable(before, str(error), now)))
            raise
        decision = decide(wanted, before, world, now)
        self._write(run, before, decision)
        self._act(name, decision, store, wanted.owner.recipe)
        return now if decision.status != before else decision.look_at

    def _taken(self, run: Manifest, before: Status) -> tuple[Wanted, Store] | None:
        """The run as it is wanted, its recipe in its run directory; None where nothing is left to do.

        To be suspended though its recipe is refused, it has the one that was acted on last, by which it can still be stopped.
        """
        spec = _spec(run)
        try:
            text, version = (None, "") if spec.recipe_from is None else self._recipe_file(spec.recipe_from)
            wanted = _with_recipe(run, spec, resolve_recipe(spec, run["metadata"]["name"], text), version=version)
            if _over(wanted, before) and before.observed_generation == wanted.generation and before.cluster is None:
                return None
            store = self.store(spec.storage.url)
            if not (_settled(before, wanted) or _over(wanted, before)):
                begun = [stage_name(number) for number in range(1, before.stages_begun + 1)]
                settle_recipe(store, wanted.owner.recipe, begun)
            return wanted, store
        except BadInput as error:
            if spec.suspend and before.recipe_hash:
                store = self.store(spec.storage.url)
                with suppress(BadInput):  # training pods may have written anything there; what was refused first is told
                    recipe = read_recipe(store)
                    if recipe_hash(recipe) == before.recipe_hash:
                        return _with_recipe(run, spec, recipe, recipe_fault=str(error)), store
            raise

    def _recipe_file(self, source: RecipeSource) -> tuple[str, str]:
        """The recipe file of a ConfigMap, and the ConfigMap's version."""
        found = self.api.get("ConfigMap", source.config_map)
        text = (found or {}).get("data", {}).get(source.key)
        if found is None or text is None:
            missing = (
                f"there is no ConfigMap {source.config_map}" if found is None else f"{source.config_map} has no {source.key}"
            )
            raise BadInput(f"spec.recipeFrom: {missing}; make it in the run's namespace")
        return text, str(found["metadata"]["resourceVersion"])

    def gone(self, name: str) -> None:
        """Forgets a run that was deleted."""
        self._refused.pop(name, None)
        self.run_gone(name)

    def _write(self, run: Manifest, before: Status, decision: Decision) -> None:
        if decision.status == before:
            return
        name = run["metadata"]["name"]
        self.api.write_status(run, status_patch(decision.status))
        self.changed(name, before, decision.status)
        for one in news(before, decision.status):
            self.api.tell(run, one, f"{moment(self.clock()):%Y-%m-%dT%H:%M:%SZ}")

    def _act(self, name: str, decision: Decision, store: Store, recipe: Recipe) -> None:
        if not decision.effects:
            self._refused.pop(name, None)
        for effect in decision.effects:
            if isinstance(effect, Apply):
                try:
                    self.api.apply(effect.manifest)
                except ApiError as error:
                    self._refused[name] = f"{effect.manifest['kind']} {effect.manifest['metadata']['name']}: {error}"
                    raise
                self._refused.pop(name, None)
            elif isinstance(effect, AskToStop):
                self._ask_to_stop(name, effect, store)
            elif isinstance(effect, RollBack):
                self._roll_back(name, effect, store, recipe)
            else:
                self.api.delete(effect.kind, effect.name, effect.uid)
                self._refused.pop(name, None)  # a driver that could not be asked to stop has had its time

    def _ask_to_stop(self, name: str, effect: AskToStop, store: Store) -> None:
        try:
            if not store.exists(effect.key):
                store.write_bytes(effect.key, b"")
        except (StorageError, BadInput) as error:  # training pods write there, too: something of theirs may be in the way
            self._refused[name] = f"the driver cannot be asked to: {error}"
            raise StorageError(str(error)) from error
        self._refused.pop(name, None)

    def _roll_back(self, name: str, effect: RollBack, store: Store, recipe: Recipe) -> None:
        """Nothing is written before it, so the run is read again: another operator may have done it, and the run gone on."""
        run = self.api.get("PTSTRun", name)
        breach = Status.model_validate(run.get("status", {})).breach if run is not None else None
        if run is None or breach is None or breach.number != effect.number or breach.rolled_back:
            return
        try:
            roll_back(store, recipe, effect.to, f"{run['metadata']['uid'][:8]}-{effect.number}")
        except (StorageError, BadInput) as error:
            self._refused[name] = str(error)
            raise StorageError(str(error)) from error
        self._refused.pop(name, None)


def _with_recipe(run: Manifest, spec: Spec, recipe: Recipe, version: str = "", recipe_fault: str = "") -> Wanted:
    meta = run["metadata"]
    owner = Owner(meta["name"], meta["namespace"], meta["uid"], spec, recipe)
    return Wanted(owner, meta["generation"], meta.get("annotations", {}).get(APPROVE, ""), version, recipe_fault)


def _settled(status: Status, wanted: Wanted) -> bool:
    """Whether the run directory has the recipe of this generation of the spec, or of its ConfigMap."""
    valid = any(one.type == "RecipeValid" and one.status == "True" for one in status.conditions)
    same = (status.observed_generation, status.recipe_version) == (wanted.generation, wanted.recipe_version)
    return valid and same


def _over(wanted: Wanted, status: Status) -> bool:
    """Whether nothing is left to do until a person changes the run."""
    if status.phase == "Failed":
        return wanted.owner.spec.restarts <= status.restarts
    return status.phase == "Succeeded" and all(status.of(phase.name).complete for phase in wanted.chain)


def _spec(run: Manifest) -> Spec:
    try:
        return Spec.model_validate(run["spec"])
    except ValidationError as error:
        # The API server checks the same schema: only a CRD of another version lets this through.
        lines = [f"spec.{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()]
        raise BadInput("\n".join(lines)) from None
