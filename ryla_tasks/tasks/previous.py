"""What a job makes of the result before it in a canvas."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from ryla_tasks.artifacts import ArtifactNotFound, open_store
from ryla_tasks.errors import InvalidJob
from ryla_tasks.settings import get_settings

__all__ = ["artifacts_of", "input_images"]


def input_images(previous: Any) -> list[dict[str, str]]:
    """The images of a previous result (or of each in a list of them) as input images for a GPU worker.

    They are read from the artifact store where the follower is enqueued, and travel in its input, so together they
    must stay below what an endpoint takes. Raises `InvalidJob` where they are gone.
    """
    found = [artifact for artifact in artifacts_of(previous) if artifact["content_type"].startswith("image/")]
    if not found:
        return []
    store = open_store(get_settings().artifacts)
    return [_input_image(store, number, artifact) for number, artifact in enumerate(found, start=1)]


def artifacts_of(previous: Any) -> Iterator[Mapping[str, Any]]:
    """The artifacts that a result names; those of every result in a list; nothing for anything else."""
    if isinstance(previous, Mapping):
        for artifact in previous.get("artifacts") or ():
            if isinstance(artifact, Mapping) and {"key", "content_type"} <= artifact.keys():
                yield artifact
    elif isinstance(previous, (list, tuple)):
        for one in previous:
            yield from artifacts_of(one)


def _input_image(store: Any, number: int, artifact: Mapping[str, Any]) -> dict[str, str]:
    extension = artifact["content_type"].removeprefix("image/").replace("jpeg", "jpg")
    try:
        data = store.get(artifact["key"])
    except ArtifactNotFound as error:
        raise InvalidJob(f"previous: its image is gone: {error}", field="previous") from error
    return {"name": f"input_{number}.{extension}", "image": base64.b64encode(data).decode()}
