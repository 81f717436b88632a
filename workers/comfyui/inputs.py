"""What a job asks for: read from its input, checked, and made ready for ComfyUI. Pure but for base64."""

from __future__ import annotations

import base64
import binascii
import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from workers.comfyui.settings import Settings
from workers.common.failures import JobFailure

__all__ = ["InputImage", "ModelFile", "Request", "invalid", "prefixed", "read_request", "with_images"]

#: Formats without code in them. A pickle (.pt, .ckpt, .bin) that is loaded from anywhere runs whatever it holds.
_SAFE_MODELS = (".safetensors", ".sft", ".gguf")
_FOLDER = re.compile(r"[A-Za-z0-9_\-]{1,64}\Z")
_NAME = re.compile(r"[^A-Za-z0-9._\- ]")
_MOST_NODES = 5_000


def invalid(reason: str) -> JobFailure:
    """The job's input makes no sense."""
    return JobFailure("invalid_input", "The GPU worker does not understand the input.", {"reason": reason})


@dataclass(frozen=True, slots=True)
class InputImage:
    """An image that the workflow calls `name`: its bytes, or where they are."""

    name: str
    data: bytes | None = field(default=None, repr=False)
    url: str = field(default="", repr=False)

    @property
    def safe_name(self) -> str:
        """A name that is good in any file system."""
        return _NAME.sub("_", PurePosixPath(self.name).name)[-100:].lstrip(". ") or "image"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file that the workflow needs, and where to get it if it is not there."""

    folder: str
    name: str
    url: str = field(repr=False)
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A job's input, checked. `outputs` are the nodes whose files are wanted, None for all of them."""

    workflow: dict[str, Any] = field(repr=False)
    images: tuple[InputImage, ...] = ()
    files: tuple[ModelFile, ...] = ()
    outputs: tuple[str, ...] | None = None
    check: bool = False
    needs_face: tuple[str, ...] = ()
    own_ids: tuple[str, ...] = ()
    api_key: str = field(default="", repr=False)


def read_request(said: Any, settings: Settings) -> Request:
    """Read a job's input: worker-comfyui's (`workflow`, `images`) and what is ours besides. Raises `JobFailure`."""
    if isinstance(said, str):
        try:
            said = json.loads(said)
        except ValueError:
            raise invalid("input is a text, but not JSON") from None
    if not isinstance(said, Mapping):
        raise invalid("input is not an object")
    ryla = said.get("ryla")
    ryla = ryla if isinstance(ryla, Mapping) else {}
    return Request(
        _workflow(said.get("workflow")),
        tuple(_image(one, settings) for one in _list(said, "images", settings.most_images)),
        tuple(_file(one) for one in _list(said, "files", 20)),
        _outputs(said),
        said.get("check") is True,
        tuple(_text(one, "needs_face") for one in _list(said, "needs_face", settings.most_images)),
        tuple(str(ryla[name]) for name in ("job_id", "correlation_id") if ryla.get(name)),
        str(said.get("comfy_org_api_key") or ""),
    )


def _list(said: Mapping[str, Any], name: str, most: int) -> list[Any]:
    value = said.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise invalid(f"{name} is not a list")
    if len(value) > most:
        raise invalid(f"{name} has {len(value)} entries, at most {most} are taken")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value or len(value) > 300:
        raise invalid(f"{name} is not a name")
    return value


def _workflow(workflow: Any) -> dict[str, Any]:
    if not isinstance(workflow, dict) or not workflow:
        raise invalid("workflow is missing, or not an object")
    if isinstance(workflow.get("nodes"), list):
        raise invalid("workflow is in the editor's format: export it in the API format")
    if len(workflow) > _MOST_NODES:
        raise invalid(f"workflow has more than {_MOST_NODES} nodes")
    for node_id, node in workflow.items():
        if not isinstance(node, dict) or not isinstance(node.get("inputs", {}), dict):
            raise invalid(f"node {node_id[:50]} of the workflow is not a node in the API format")
    return workflow


def _outputs(said: Mapping[str, Any]) -> tuple[str, ...] | None:
    if said.get("outputs") is None:
        return None
    outputs = tuple(str(one) for one in _list(said, "outputs", _MOST_NODES))
    absent = [one for one in outputs if one not in said["workflow"]]
    if absent or not outputs:
        raise invalid(f"outputs are not in the workflow: {', '.join(absent)[:200]}" if absent else "outputs is empty")
    return outputs


def _image(one: Any, settings: Settings) -> InputImage:
    if not isinstance(one, Mapping):
        raise invalid("images must be a list of objects with name and image or url")
    name = _text(one.get("name"), "the name of an image")
    url, image = one.get("url"), one.get("image")
    if isinstance(url, str) and url:
        return InputImage(name, url=url)
    # worker-comfyui's key; a URL in it is a natural mistake, so it is understood.
    if isinstance(image, str) and image[:8].lower().startswith(("https://", "http://")):
        return InputImage(name, url=image)
    if not isinstance(image, str) or not image:
        raise invalid(f"image {name} has neither image nor url")
    return InputImage(name, _decoded(name, image, settings.most_image_bytes))


def _decoded(name: str, text: str, most_bytes: int) -> bytes:
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    if len(text) > most_bytes * 4 // 3 + 1_000:
        raise invalid(f"image {name} is larger than {most_bytes} bytes")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise invalid(f"image {name} is not base64") from None


def _file(one: Any) -> ModelFile:
    if not isinstance(one, Mapping):
        raise invalid("files must be a list of objects with folder, name and url")
    folder, name = _text(one.get("folder"), "folder"), _text(one.get("name"), "the name of a file")
    if not _FOLDER.match(folder):
        raise invalid("folder is not the name of a model folder")
    parts = PurePosixPath(name).parts
    if name != "/".join(parts) or name.startswith("/") or ".." in parts or _NAME.search(name.replace("/", "")):
        raise invalid("the name of a file is not a plain path")
    if not name.lower().endswith(_SAFE_MODELS):
        raise invalid(f"files must end with {', '.join(_SAFE_MODELS)}: others may run code when they are loaded")
    url, sha256 = one.get("url"), one.get("sha256")
    if not isinstance(url, str) or not url:
        raise invalid(f"file {name} has no url")
    if sha256 is not None and not (isinstance(sha256, str) and re.fullmatch(r"[0-9a-fA-F]{64}", sha256)):
        raise invalid(f"file {name}: sha256 is not 64 hexadecimal digits")
    return ModelFile(folder, name, url, sha256)


def with_images(workflow: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The workflow with ComfyUI's names of the uploaded images in place of the job's."""
    changed = copy.deepcopy(workflow)
    for node in changed.values():
        for name, value in node.get("inputs", {}).items():
            if isinstance(value, str) and value in names:
                node["inputs"][name] = names[value]
    return changed


def prefixed(workflow: dict[str, Any], folder: str, own_ids: tuple[str, ...]) -> dict[str, Any]:
    """The workflow with its files saved in a folder of the job's own.

    Otherwise an unchanged output node is cached, and shows the file of an earlier job. A prefix that begins with the
    job's own id is left.
    """
    changed = copy.deepcopy(workflow)
    for node in changed.values():
        prefix = node.get("inputs", {}).get("filename_prefix")
        if isinstance(prefix, str) and not (own_ids and prefix.startswith(own_ids)):
            node["inputs"]["filename_prefix"] = f"{folder}/{prefix.lstrip('/')}"
    return changed
