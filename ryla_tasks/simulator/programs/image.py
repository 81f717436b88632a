"""A program that answers as ComfyUI behind worker-comfyui does, with painted pictures."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ..config import EndpointConfig
from ..directives import Directives
from .base import ProgramError, Work
from .lacking import preflight, refuse_what_is_missing
from .painter import paint
from .workflow import Picture, read_workflow

__all__ = ["Image"]


#: How long a check takes at most.
_CHECK_S = 0.5


class Image:
    """Runs the workflow in `input.workflow`: paints what its saving nodes would save.

    Output as worker-comfyui v5: `{"images": [{"filename", "type": "base64", "data"}], "errors"?}`, or without any
    image `{"status": "success_no_images", "images": []}`. Steps as progress, which that worker does not send. With
    `check: true` in the input it answers what is missing, as the worker of this project does, and runs nothing.
    """

    def prepare(self, job_input: Mapping[str, Any], directives: Directives, config: EndpointConfig) -> Work:
        if job_input.get("workflow") is None:
            raise ProgramError("Missing 'workflow' parameter")
        pictures = read_workflow(job_input["workflow"], config.steps)
        if job_input.get("check") is True:
            found = preflight(job_input["workflow"], config)
            return Work(lambda: found, min(config.run_s, _CHECK_S), 1)
        refuse_what_is_missing(job_input["workflow"], config)
        kept = pictures[: max(len(pictures) - directives.drop_images, 0)]
        steps = pictures[0].steps if pictures else config.steps
        node = pictures[0].node if pictures else ""
        return Work(lambda: _answer(kept, directives), config.run_s, steps, node)


def _answer(pictures: list[Picture], directives: Directives) -> dict[str, Any]:
    data = [_data(picture, directives) for picture in pictures]
    if directives.legacy_message and data:
        return {"message": data[0], "status": "success"}
    answer: dict[str, Any] = {
        "images": [
            {"filename": picture.filename, "type": "base64", "data": one}
            for picture, one in zip(pictures, data, strict=True)
        ]
    }
    if directives.errors:
        answer["errors"] = list(directives.errors)
    elif not data:
        answer["status"] = "success_no_images"
    return answer


def _data(picture: Picture, directives: Directives) -> str:
    png = paint(picture)
    if directives.truncate:
        png = png[: len(png) // 2]
    text = base64.b64encode(png).decode("ascii")
    return f"data:image/png;base64,{text}" if directives.data_uri else text
