"""Takes in a run: checks its spec and its recipe, and writes the recipe into its run directory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from pydantic import ValidationError

from ptst_operator.api import Api
from ptst_operator.forecast import faults
from ptst_operator.names import APPROVE, Manifest
from ptst_operator.run import ResolvedRun, WantedRun, evaluation_hash
from ptst_operator.sizes import size_faults
from ptst_operator.spec import RecipeSource, Spec, resolve_recipe
from ptst_operator.status import Status
from visionr1.errors import BadInput
from visionr1.preflight.check import recipe_faults
from visionr1.recipe import Recipe, phases
from visionr1.rundir.recipe import adopt_recipe, keep_decided, read_recipe
from visionr1.storage import Store


def take_in(
    api: Api, open_store: Callable[[str], Store], manifest: Manifest, before: Status, home: str
) -> tuple[WantedRun, Store] | None:
    """The run as its user wants it, with its recipe in its run directory. None if nothing is left to do.

    A run with a wrong recipe can still be suspended: it then has the recipe that the operator last acted on.

    Args:
        home: namespace of the operator's pod, whose volumes hold runs of that namespace only. Empty if it is no pod.

    Raises:
        BadInput: its spec or its recipe is wrong.
        StorageError: the run directory cannot be read or written now.
    """
    spec = _spec(manifest)
    _refuse_a_path_on_another_s_volume(spec, manifest["metadata"]["namespace"], home)
    try:
        found = None if spec.recipe_from is None else api.get("ConfigMap", spec.recipe_from.config_map)
        if spec.recipe_from is not None and found is None and _is_left_over(manifest, before):
            return None
        text, version = (None, "") if spec.recipe_from is None else _recipe_file(found, spec.recipe_from)
        wanted = _with_recipe(manifest, spec, resolve_recipe(spec, manifest["metadata"]["name"], text), version=version)
        if _is_over(wanted, before) and _is_left_over(manifest, before) and _recipe_is_valid(before):
            return None
        if wrong := size_faults(spec, wanted.run.recipe):
            raise BadInput("\n".join(wrong))
        if not before.recipe_hash:
            _refuse_what_cannot_work(wanted.run.recipe)
        store = open_store(spec.storage.url)
        if not (_recipe_is_there(before, wanted) or _is_over(wanted, before)):
            _refuse_what_does_not_fit(spec, wanted.run.recipe)
            adopt_recipe(store, wanted.run.recipe, begun=[phase.name for phase in before.phases if phase.begun])
        if not _is_over(wanted, before):
            for recipe in _decided(wanted, before):
                keep_decided(store, recipe)
        return wanted, store
    except BadInput as error:
        if spec.suspend and before.recipe_hash:
            store = open_store(spec.storage.url)
            with suppress(BadInput):  # training pods may have written anything there; the first error is the one to report
                recipe = read_recipe(store, before.recipe_hash)
                return _with_recipe(manifest, spec, recipe, recipe_fault=str(error)), store
        raise


def _decided(wanted: WantedRun, status: Status) -> list[Recipe]:
    """The recipes that pods may be told to act on: the run's, and that of an attempt with fewer workers."""
    live = status.live()
    of_attempt = wanted.run.with_workers(live[1].workers if live is not None else None).recipe
    return [wanted.run.recipe, *([] if of_attempt == wanted.run.recipe else [of_attempt])]


def _refuse_a_path_on_another_s_volume(spec: Spec, namespace: str, home: str) -> None:
    """The operator would read and write it on a volume of its own, which it cannot tell from the run's."""
    if home and namespace != home and not spec.storage.url.startswith("s3://"):
        raise BadInput(
            f"spec.storage.url: {spec.storage.url} is a path, but the operator is in another namespace ({home}) and cannot mount "
            "a volume of this one; create the run with s3://bucket/prefix"
        )


def _refuse_what_does_not_fit(spec: Spec, recipe: Recipe) -> None:
    lines = faults(spec, recipe)
    if lines and recipe.preflight == "refuse":
        raise BadInput("\n".join(lines))


def _recipe_file(found: Manifest | None, source: RecipeSource) -> tuple[str, str]:
    """The recipe file of a ConfigMap, and the ConfigMap's version."""
    text = (found or {}).get("data", {}).get(source.key)
    if found is None or text is None:
        missing = f"there is no ConfigMap {source.config_map}" if found is None else f"{source.config_map} has no {source.key}"
        raise BadInput(f"spec.recipeFrom: {missing}; create it in the run's namespace")
    return text, str(found["metadata"]["resourceVersion"])


def _with_recipe(manifest: Manifest, spec: Spec, recipe: Recipe, version: str = "", recipe_fault: str = "") -> WantedRun:
    meta = manifest["metadata"]
    run = ResolvedRun(meta["name"], meta["namespace"], meta["uid"], spec, recipe)
    return WantedRun(run, meta["generation"], meta.get("annotations", {}).get(APPROVE, ""), version, recipe_fault)


def _refuse_what_cannot_work(recipe: Recipe) -> None:
    """What a new run would waste GPUs on. The model and the data are looked at by its first phase: only pods can see them."""
    faults = recipe_faults(recipe, phases(recipe))
    if faults:
        raise BadInput("\n".join(faults))


def _recipe_is_there(status: Status, wanted: WantedRun) -> bool:
    """Whether the run directory has the recipe of this generation of the spec, or of its ConfigMap."""
    same = (status.observed_generation, status.recipe_version) == (wanted.generation, wanted.recipe_version)
    return _recipe_is_valid(status) and same


def _recipe_is_valid(status: Status) -> bool:
    return any(one.type == "RecipeValid" and one.status == "True" for one in status.conditions)


def _is_left_over(manifest: Manifest, status: Status) -> bool:
    """Whether a run had ended, and its spec is as it was then. Whoever removes its ConfigMap is tidying up."""
    ended = status.phase in ("Succeeded", "Failed") and status.cluster is None
    return ended and status.observed_generation == manifest["metadata"]["generation"]


def _is_over(wanted: WantedRun, status: Status) -> bool:
    """Whether nothing is left to do until a person changes the run."""
    if status.phase == "Failed":
        return wanted.run.spec.restarts <= status.restarts
    same = status.evaluation in ("", evaluation_hash(wanted.run.recipe))
    return status.phase == "Succeeded" and same and all(status.of(phase.name).complete for phase in wanted.chain)


def _spec(manifest: Manifest) -> Spec:
    try:
        return Spec.model_validate(manifest["spec"])
    except ValidationError as error:
        # The API server checks the same schema: only a CRD of another version lets this through.
        lines = [
            f"spec.{'.'.join(str(part) for part in one['loc'])}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors()
        ]
        raise BadInput("\n".join(lines)) from None
