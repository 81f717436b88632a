"""The files that a prompt's output nodes list: chosen, fetched, and uploaded or put into the answer."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workers.comfyui.client import ComfyClient
from workers.common.failures import JobFailure
from workers.common.storing import Store

__all__ = ["OutputFile", "Outputs", "deliver", "find_outputs"]

_MOST_FILES = 500
#: Where there is a store nothing but its own limit counts; this is one of reason.
_MOST_STORED_BYTES = 20_000_000_000
_TYPES = {".webp": "image/webp", ".flac": "audio/flac", ".webm": "video/webm", ".mkv": "video/x-matroska"}


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One file that a node listed. `text` is set where a node gave words instead."""

    node: str
    filename: str
    listed: Mapping[str, Any] = field(default_factory=dict)
    text: str | None = None

    @property
    def content_type(self) -> str:
        ending = Path(self.filename).suffix.lower()
        return _TYPES.get(ending) or mimetypes.guess_type(self.filename)[0] or "application/octet-stream"

    @property
    def kind(self) -> str:
        """image, video, audio or text; file where it is none of these."""
        kind = self.content_type.partition("/")[0]
        return kind if kind in ("image", "video", "audio", "text") else "file"


@dataclass(slots=True)
class Outputs:
    """The answer under way. `paths` are the images as they were fetched, for who wants to look at them."""

    images: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)

    def answer(self) -> dict[str, Any]:
        """worker-comfyui's shape, with `files` and `warnings` where there are some."""
        answer: dict[str, Any] = {"images": self.images}
        if self.files:
            answer["files"] = self.files
        if self.warnings:
            answer["warnings"] = self.warnings
        if not self.images and not self.files:
            answer["status"] = "success_no_images"
        return answer


def find_outputs(entry: Mapping[str, Any], wanted: tuple[str, ...] | None) -> list[OutputFile]:
    """The files in an entry of the history, images first, and otherwise in the order of the nodes.

    Previews (type temp) are left out unless their node is named in `wanted`. Raises `JobFailure` where a node that is
    wanted has nothing.
    """
    outputs = entry.get("outputs")
    outputs = outputs if isinstance(outputs, Mapping) else {}
    nodes = list(outputs) if wanted is None else list(wanted)
    found = []
    for node_id in nodes:
        here = list(_files(node_id, outputs.get(node_id), previews=wanted is not None))
        if wanted is not None and not here:
            raise JobFailure(
                "output_gone", "A file that the workflow made could not be read.", {"nodes": [{"node": node_id}]}
            )
        found.extend(here)
    return sorted(found, key=lambda file: file.kind != "image")[:_MOST_FILES]


def _files(node_id: str, shown: Any, *, previews: bool) -> Iterator[OutputFile]:
    for key, values in shown.items() if isinstance(shown, Mapping) else ():
        for number, value in enumerate(values if isinstance(values, (list, tuple)) else (values,), start=1):
            if isinstance(value, Mapping) and isinstance(value.get("filename"), str) and value["filename"]:
                if previews or value.get("type") != "temp":
                    yield OutputFile(node_id, value["filename"], value)
            elif key in ("text", "string") and isinstance(value, str):
                yield OutputFile(node_id, f"node_{node_id}_{number}.txt", text=value)


async def deliver(
    found: list[OutputFile],
    client: ComfyClient,
    store: Store | None,
    *,
    key: str,
    folder: Path,
    most_bytes: int,
) -> Outputs:
    """Fetch the files into a folder, and upload them, or take them into the answer where there is no store.

    Raises `JobFailure` where the answer would be larger than RunPod takes: it would throw the result away, and call
    the job completed.
    """
    outputs, left, used = Outputs(), most_bytes, set[str]()
    for number, file in enumerate(found, start=1):
        path = folder / f"{number:03d}{Path(file.filename).suffix[:10]}"
        size = await _fetch(file, client, path, _MOST_STORED_BYTES if store is not None else left)
        if size is None or (store is None and size * 4 // 3 + 200 > left):
            raise _too_large(most_bytes, number, len(found), has_store=store is not None)
        name = _unused(file.filename, used)
        if store is not None:
            data, how = await store.put(path, f"{key}/{name}", file.content_type), "s3_url"
        else:
            data, how = base64.b64encode(path.read_bytes()).decode(), "base64"
            left -= len(data) + 200
        entry = {"filename": name, "type": how, "data": data}
        if file.kind == "image":
            outputs.images.append(entry)
            outputs.paths.append(path)
        else:
            outputs.files.append({**entry, "kind": file.kind})
            path.unlink()
    return outputs


async def _fetch(file: OutputFile, client: ComfyClient, path: Path, most_bytes: int) -> int | None:
    if file.text is None:
        return await client.view(dict(file.listed), path, most_bytes=max(most_bytes, 0))
    data = file.text.encode(errors="replace")
    path.write_bytes(data)
    return len(data)


def _unused(filename: str, used: set[str]) -> str:
    """Nodes that save in folders of their own may use a name twice."""
    name, number = Path(filename).name, 2
    while name in used:
        name = f"{Path(filename).stem}_{number}{Path(filename).suffix}"
        number += 1
    used.add(name)
    return name


def _too_large(most_bytes: int, number: int, count: int, *, has_store: bool) -> JobFailure:
    reason = f"file {number} of {count} goes over {most_bytes} bytes"
    advice = "" if has_store else "; set BUCKET_ENDPOINT_URL and the like, and results of any size are uploaded"
    return JobFailure("output_too_large", "The result is too large to be sent back.", {"reason": f"{reason}{advice}"})
