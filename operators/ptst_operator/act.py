"""Does what was decided: creates or deletes a child, asks a driver to stop, rolls a run directory back."""

from __future__ import annotations

from dataclasses import dataclass, field

from ptst_operator.api import Api, ApiError, NameTaken
from ptst_operator.children import isolation
from ptst_operator.effects import Apply, AskToStop, Delete, Effect, RollBack
from ptst_operator.names import KIND, Manifest, name_taken
from ptst_operator.run import ResolvedRun
from ptst_operator.status import read_status
from visionr1.errors import BadInput, Fenced
from visionr1.recipe import Recipe
from visionr1.rundir.rollback import roll_back
from visionr1.storage import NotFound, StorageError, Store


@dataclass
class Actor:
    """Does what was decided, and keeps each run's last refusal for its conditions."""

    api: Api
    refused: dict[str, str] = field(default_factory=dict)
    _isolated: dict[str, str] = field(default_factory=dict)

    def isolate(self, run: ResolvedRun) -> None:
        """Lets the pods of a run reach each other.

        Raises:
            ApiError, NameTaken: it could not be done now.
        """
        self._apply(run.name, isolation.build(run))
        self._isolated[run.name] = run.uid

    def isolate_once(self, run: ResolvedRun) -> None:
        """The same, if this operator has not done it yet: an older one may have made pods without it."""
        if self._isolated.get(run.name) != run.uid:
            self.isolate(run)

    def forget(self, run: str) -> None:
        """Forgets a run that was deleted."""
        self.refused.pop(run, None)
        self._isolated.pop(run, None)

    def act(self, run: str, effects: tuple[Effect, ...], store: Store, recipe: Recipe) -> None:
        """Does the effects for one run, in order. Each can be repeated.

        Raises:
            ApiError, NameTaken, StorageError: it could not be done now.
        """
        if not effects:
            self.refused.pop(run, None)
        for effect in effects:
            match effect:
                case Apply():
                    self._apply(run, effect.manifest)
                case AskToStop():
                    self._ask_to_stop(run, effect, store)
                case RollBack():
                    self._roll_back(run, effect, store, recipe)
                case Delete():
                    self._delete(run, effect)

    def _apply(self, run: str, manifest: Manifest) -> None:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        try:
            there = self.api.get(kind, name)
            if there is not None and _owner(there) != _owner(manifest):
                self.refused[run] = name_taken(kind, name)
                raise NameTaken(self.refused[run])
            self.api.apply(manifest)
        except ApiError as error:
            self.refused[run] = f"{kind} {name}: {error}"
            raise
        self.refused.pop(run, None)

    def _delete(self, run: str, effect: Delete) -> None:
        try:
            self.api.delete(effect.kind, effect.name, effect.uid)
        except ApiError as error:
            self.refused[run] = f"{effect.kind} {effect.name} cannot be deleted: {error}"
            raise
        self.refused.pop(run, None)  # from here on it does not matter that the driver could not be asked to stop

    def _ask_to_stop(self, run: str, effect: AskToStop, store: Store) -> None:
        try:
            if not store.exists(effect.key):
                store.write_bytes(effect.key, b"")
        except (StorageError, BadInput) as error:  # training pods write there, too, and may have made a directory of that name
            self.refused[run] = f"the driver cannot be asked to stop: {error}"
            raise StorageError(str(error)) from error
        self.refused.pop(run, None)

    def _roll_back(self, run: str, effect: RollBack, store: Store, recipe: Recipe) -> None:
        """Reads the run again first: another operator may have done the rollback already, and the run may have continued."""
        manifest = self.api.get(KIND, run)
        breach = read_status(manifest).breach if manifest is not None else None
        if manifest is None or breach is None or breach.number != effect.number or breach.rolled_back:
            return
        try:
            roll_back(store, recipe, effect.to, f"{manifest['metadata']['uid'][:8]}-{effect.number}")
        except (StorageError, BadInput, Fenced, NotFound) as error:  # another operator may be faster
            self.refused[run] = str(error)
            raise StorageError(str(error)) from error
        self.refused.pop(run, None)


def _owner(manifest: Manifest) -> str:
    """uid of the run that an object belongs to."""
    owners = manifest["metadata"].get("ownerReferences", [])
    return next((one["uid"] for one in owners if one.get("controller")), "")
