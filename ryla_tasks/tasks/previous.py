"""What a job makes of the result before it in a canvas, and of artifacts that it is given."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from ryla_tasks.artifacts import ArtifactNotFound, ArtifactStore, InvalidArtifactKey, store_of
from ryla_tasks.errors import InvalidJob
from ryla_tasks.settings import get_settings
from ryla_tasks.tasks.previous_lora import has_lora

if TYPE_CHECKING:
    from ryla_tasks.workflows import Manifest

__all__ = ["artifacts_of", "bind_images", "input_images"]


def input_images(previous: Any) -> list[dict[str, str]]:
    """The images of a previous result (or of each in a list of them) as input images for a GPU worker.

    They are read from the artifact store where the follower is enqueued, and travel in its input, so together they
    must stay below what an endpoint takes. Raises `InvalidJob` where they are gone.
    """
    found = _images_of(previous)
    if not found:
        return []
    store = store_of(get_settings())
    return [_input_image(store, number, artifact) for number, artifact in enumerate(found, start=1)]


def bind_images(manifest: Manifest, params: Mapping[str, Any], previous: Any) -> dict[str, Any]:
    """The parameters of a template with its images in them.

    Required image parameters that are not given take the images of a previous result, in order; optional ones do not.
    An artifact that is given as a parameter's value, as results name it, is read too, whoever's it is: what a web app
    takes from its users must not get here unchecked. Raises `InvalidJob`.
    """
    bound = dict(params)
    given = iter(_images_of(previous))
    for parameter in manifest.parameters:
        if parameter.type != "image":
            continue
        if parameter.required and bound.get(parameter.name) is None:
            bound[parameter.name] = next(given, None)
        if _is_artifact(value := bound.get(parameter.name)):
            bound[parameter.name] = {"image": _read(store_of(get_settings()), value, parameter.name)}
    return bound


def _images_of(previous: Any) -> list[Mapping[str, Any]]:
    """The images of results, in order; but the samples of a training are no input of what follows it."""
    if isinstance(previous, (list, tuple)):
        return [artifact for one in previous for artifact in _images_of(one)]
    if isinstance(previous, Mapping) and has_lora(previous):
        return []
    return [artifact for artifact in artifacts_of(previous) if artifact["content_type"].startswith("image/")]


def _is_artifact(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and {"key", "content_type"} <= value.keys()


def _read(store: ArtifactStore, artifact: Mapping[str, Any], field: str) -> str:
    """The content of an artifact, as base64."""
    try:
        data = store.get(artifact["key"])
    except (ArtifactNotFound, InvalidArtifactKey) as error:
        raise InvalidJob(f"{field}: its image is gone: {error}", field=field) from error
    return base64.b64encode(data).decode()


def artifacts_of(previous: Any) -> Iterator[Mapping[str, Any]]:
    """The artifacts that a result names; those of every result in a list; nothing for anything else."""
    if isinstance(previous, Mapping):
        for artifact in previous.get("artifacts") or ():
            if _is_artifact(artifact):
                yield artifact
    elif isinstance(previous, (list, tuple)):
        for one in previous:
            yield from artifacts_of(one)


def _input_image(store: ArtifactStore, number: int, artifact: Mapping[str, Any]) -> dict[str, str]:
    extension = artifact["content_type"].removeprefix("image/").replace("jpeg", "jpg")
    return {"name": f"input_{number}.{extension}", "image": _read(store, artifact, "previous")}
