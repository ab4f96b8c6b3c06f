"""Where `model.base` is, and what its small files say."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from visionr1.capacity.model import DEMO_BASE
from visionr1.errors import BadInput
from visionr1.recipe.paths import is_hub_name
from visionr1.recipe.schema import Model
from visionr1.storage.store import open_regular

FAMILY: Final = "qwen2_5_vl"
_MOST_JSON_BYTES: Final = 128 << 20
_PATTERNS: Final = ("*.json", "*.safetensors", "*.txt", "*.jinja", "tokenizer*")


def base_dir(model: Model) -> Path:
    """Local directory of `model.base`, downloading a Hugging Face model once.

    Raises:
        BadInput: the directory is missing, or the name cannot be downloaded.
    """
    found = local_base(model)
    if found is not None:
        return found
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(model.base, revision=model.revision, allow_patterns=list(_PATTERNS)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise BadInput(
            f"model.base: there is no folder {model.base!r}, and no model of that name could be downloaded "
            f"({type(error).__name__}): check the name and the network, or give a local folder"
        ) from error


def base_on_this_machine(model: Model) -> Path | None:
    """As `base_dir`, but nothing is downloaded; None for a Hugging Face model that is not here yet.

    Raises:
        BadInput: it is neither a folder nor a Hugging Face name.
    """
    found = local_base(model)
    if found is not None:
        return found
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model.base, revision=model.revision, allow_patterns=list(_PATTERNS), local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def local_base(model: Model) -> Path | None:
    """The folder that `model.base` names; None for a Hugging Face name.

    Raises:
        BadInput: it is neither a folder nor a Hugging Face name.
    """
    if model.base == "demo":
        return DEMO_BASE
    folder = Path(model.base)
    if os.path.isdir(folder):
        return folder
    if os.path.exists(folder):
        raise BadInput(f"model.base: {model.base} is a file: give the folder of a model, or a Hugging Face name (owner/name)")
    if not is_hub_name(model.base):
        raise BadInput(f"model.base: there is no folder {model.base!r}, and it is no Hugging Face name (owner/name): correct it")
    return None


def read_config(directory: Path) -> Mapping[str, Any]:
    """The config.json of a model's folder.

    Raises:
        BadInput: there is none, or it is not that of a Qwen2.5-VL.
    """
    if (directory / "adapter_config.json").is_file() and not (directory / "config.json").is_file():
        raise BadInput(f"model.base: {directory} is an adapter (LoRA), not a model: merge it into its model first")
    config = read_json(directory, "config.json")
    family = config.get("model_type")
    if family != FAMILY:
        raise BadInput(f"model.base: {directory} is a model of the type {family!r}; only Qwen2.5-VL ({FAMILY}) can be trained")
    return config


def read_json(directory: Path, name: str) -> Mapping[str, Any]:
    """One of a model's JSON files.

    Raises:
        BadInput: it is not there, or holds no JSON object.
    """
    try:
        with open_regular(directory / name) as file:
            data = file.read(_MOST_JSON_BYTES + 1)
    except BadInput as error:
        raise BadInput(f"model.base: {error}") from None
    except FileNotFoundError:
        raise BadInput(f"model.base: {directory} has no {name}: copy or download the whole model") from None
    except OSError as error:
        raise BadInput(f"model.base: {directory / name} cannot be read: {error.strerror}") from None
    if len(data) > _MOST_JSON_BYTES:
        raise BadInput(f"model.base: {directory / name} is larger than {_MOST_JSON_BYTES >> 20} MiB: download it again")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"model.base: {directory / name} is not JSON ({error}): copy or download it again") from None
    if not isinstance(value, dict):
        raise BadInput(f"model.base: {directory / name} holds no JSON object: copy or download it again")
    return value
