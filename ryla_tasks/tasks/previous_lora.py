"""The LoRA of a previous result in a canvas, as a parameter of a template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ryla_tasks.artifacts import ArtifactError, ArtifactNotFound, store_of
from ryla_tasks.errors import InvalidJob
from ryla_tasks.settings import get_settings
from ryla_tasks.workflows import Manifest

__all__ = ["BoundLora", "bind_lora", "has_lora"]

#: The URL must outlive the job's queue, and its retries.
_URL_TTL_S = 86_400

_PARAMETER = "lora"


@dataclass(frozen=True, slots=True)
class BoundLora:
    """A LoRA for a job: its name in ComfyUI's folder, and the entry in the input's `files` from which a GPU worker
    fetches it if it is not there; None where it can only be there already."""

    name: str
    file: dict[str, str] | None


def bind_lora(manifest: Manifest, params: Mapping[str, Any], previous: Any) -> BoundLora | None:
    """The LoRA of a previous result (the last, in a list of them), if the template takes one and none is given.

    Raises `InvalidJob` where it was trained for another base model than the template's, or is gone.
    """
    if params.get(_PARAMETER) is not None or manifest.parameter(_PARAMETER) is None:
        return None
    found = list(_trainings(previous))
    if not found:
        return None
    result = found[-1]
    data = result["data"] if isinstance(result.get("data"), Mapping) else {}
    trained = data.get("base_model")
    if trained and manifest.base_model and trained != manifest.base_model:
        raise InvalidJob(
            f"lora: that of the previous result was trained for {trained}, and the template {manifest.name!r} is for "
            f"{manifest.base_model}",
            field=_PARAMETER,
        )
    artifact = _lora_artifact(result)
    if artifact is None:
        return BoundLora(str(data["lora"]["filename"]), None)
    return BoundLora(str(artifact["filename"]), _file(artifact))


def _trainings(previous: Any) -> Iterator[Mapping[str, Any]]:
    """The results with a LoRA."""
    if isinstance(previous, Mapping):
        if has_lora(previous):
            yield previous
    elif isinstance(previous, (list, tuple)):
        for one in previous:
            yield from _trainings(one)


def has_lora(result: Mapping[str, Any]) -> bool:
    """Whether this is the result of a training."""
    data = result.get("data")
    lora = data.get("lora") if isinstance(data, Mapping) else None
    on_volume = isinstance(lora, Mapping) and isinstance(lora.get("filename"), str)
    return on_volume or _lora_artifact(result) is not None


def _lora_artifact(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The LoRA comes first among a training's files; its checkpoints, which are such files too, after it."""
    for artifact in result.get("artifacts") or ():
        if isinstance(artifact, Mapping) and str(artifact.get("filename", "")).endswith(".safetensors"):
            return artifact if "key" in artifact else None
    return None


def _file(artifact: Mapping[str, Any]) -> dict[str, str] | None:
    """Where the artifact store makes no URLs for others (a folder), the LoRA must be on the worker's volume."""
    settings = get_settings()
    store = store_of(settings)
    try:
        if not store.exists(artifact["key"]):
            raise ArtifactNotFound(f"there is no artifact {artifact['key']!r}")
    except ArtifactError as error:
        raise InvalidJob(f"lora: that of the previous result is gone: {error}", field=_PARAMETER) from error
    try:
        url = store.url(artifact["key"], max(_URL_TTL_S, settings.artifact_url_ttl_s))
    except ArtifactError:
        return None
    if not url.startswith(("https://", "http://")):
        return None
    file = {"folder": "loras", "name": str(artifact["filename"]), "url": url}
    return {**file, "sha256": str(artifact["sha256"])} if artifact.get("sha256") else file
