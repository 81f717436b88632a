"""From a GPU worker's output to checked files, and from those to stored artifacts.

`decode_output` does no I/O. `collect` does, through the store and the `fetch` that it is given. What they refuse is
a `JobError` whose message is for the person who waits and whose `info["details"]` is for a developer; the caller
adds the job's id. Presigned URLs are secrets: no error, warning or repr shows more of one than scheme and host.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ryla_tasks.artifacts.base import Artifact, ArtifactStore
from ryla_tasks.artifacts.download import Downloaded
from ryla_tasks.artifacts.files import (
    OutputFile,
    OutputLimits,
    checked_file,
    from_base64,
    invalid,
    safe_name,
    sentence,
)
from ryla_tasks.artifacts.media import OCTET_STREAM
from ryla_tasks.artifacts.shapes import RawFile, find_files, is_older_comfyui, is_url
from ryla_tasks.errors import Category, JobError, OutputMissing
from ryla_tasks.jobs.redact import redacted
from ryla_tasks.jobs.verdict import reported

__all__ = ["DecodedOutput", "Fetch", "OutputFile", "OutputLimits", "collect", "decode_output"]

#: Downloads one URL. Raises a `TransientError` where another try may work, an `OutputInvalid` where not.
Fetch = Callable[[str], Downloaded]

_COMFYUI_KEYS = frozenset({"images", "status", "errors"})
_WEB_PAGES = frozenset({"text/html", "application/xhtml+xml", "application/xml", "text/xml"})
_DEFAULT_LIMITS = OutputLimits()

_E = TypeVar("_E", bound=JobError)


@dataclass(frozen=True, slots=True)
class DecodedOutput:
    """A job's output: its files in the worker's order, the JSON besides them, and what the worker complained of."""

    files: tuple[OutputFile, ...]
    data: Any = field(repr=False)
    warnings: tuple[str, ...]


def decode_output(output: Any, *, expected: int | None = None, limits: OutputLimits = _DEFAULT_LIMITS) -> DecodedOutput:
    """Take a COMPLETED job's output apart and check it.

    `expected` is how many images were asked for; None where that is not known or no images are wanted. Raises
    `OutputMissing` (nothing there, or no image where some were asked for), `OutputInvalid` (damaged, too large, not
    base64, fewer than asked for) and `JobFailed` (the worker returned an error as its output). Fewer images than
    asked for is an error even where the worker reports none: ComfyUI drops an invalid output node in silence.
    `output` is not changed.
    """
    if output is None or (isinstance(output, (dict, list, str)) and not output):
        raise _error(OutputMissing, "The job finished without any result.", "COMPLETED without output")
    _raise_reported(output)
    errors = _reported_errors(output)
    found = find_files(output, strict=bool(expected))
    _check_count(output, len(found.files), expected, errors)
    if len(found.files) > limits.max_files:
        raise invalid("The job returned too many files.", f"{len(found.files)} files, {limits.max_files} allowed")
    files = tuple(
        _decode(raw, _label(raw.noun, number, len(found.files), raw.filename), limits)
        for number, raw in enumerate(found.files, start=1)
    )
    if not files and not _is_training(output):
        return DecodedOutput(files, found.rest, tuple(errors))
    return DecodedOutput(files, _without_protocol(found.rest), (*errors, *_words_under(output, "warnings")))


def collect(
    decoded: DecodedOutput, store: ArtifactStore, prefix: str, fetch: Fetch, *, limits: OutputLimits = _DEFAULT_LIMITS
) -> list[Artifact]:
    """Fetch what is still to be fetched, check it, and store every file; returns the artifacts in the files' order.

    Keys are `{prefix}/{index:02d}-{sha256[:16]}.{extension}`: collecting the same output again gives the same keys
    and changes nothing. What was stored before a failure stays, and the next try finds it. Raises what `fetch` and
    the store raise, and `OutputInvalid`.
    """
    artifacts = []
    for index, file in enumerate(decoded.files):
        label = _label("file", index + 1, len(decoded.files), file.filename)
        artifacts.append(_store(_fetched(file, label, fetch, limits), store, prefix, index))
    return artifacts


def _fetched(file: OutputFile, label: str, fetch: Fetch, limits: OutputLimits) -> OutputFile:
    if file.url is None:
        return file
    got = fetch(file.url)
    if got.content_type in _WEB_PAGES:
        raise invalid(
            f"{sentence(label)} could not be downloaded.", f"{label}: {redacted(file.url)} gave {got.content_type}"
        )
    return checked_file(file.filename, got.data, label, limits)


def _store(file: OutputFile, store: ArtifactStore, prefix: str, index: int) -> Artifact:
    data = file.data or b""
    digest = hashlib.sha256(data).hexdigest()
    extension = file.filename.rpartition(".")[2]
    artifact = store.put(f"{prefix}/{index:02d}-{digest[:16]}.{extension}", data, file.content_type)
    return replace(artifact, filename=file.filename)


def _decode(raw: RawFile, label: str, limits: OutputLimits) -> OutputFile:
    if is_url(raw.content):
        return OutputFile(safe_name(raw.filename), None, raw.content, OCTET_STREAM)
    if raw.is_link:
        raise invalid(f"{sentence(label)} could not be read.", f"{label}: its link is not an http(s) URL")
    return checked_file(raw.filename, from_base64(raw.content, label, limits), label, limits)


def _label(noun: str, number: int, total: int, filename: str) -> str:
    return f"{noun} {number} of {total}" + (f" ({safe_name(filename)})" if filename else "")


def _raise_reported(output: Any) -> None:
    """An error that the worker returned as its output."""
    if not isinstance(output, dict):
        return
    if output.get("error"):
        raise reported(output["error"], output.get("details"))
    if is_older_comfyui(output) and output.get("status") == "error":
        raise reported(output["message"])
    if output.get("status") == "success_no_images" and not output.get("images"):
        nothing = {"status": "success_no_images", "errors": _reported_errors(output)}
        raise _error(OutputMissing, "The job finished without making any image.", nothing)


def _reported_errors(output: Any) -> list[str]:
    """What worker-comfyui lists under `errors` beside its images."""
    return _words_under(output, "errors") if isinstance(output, dict) and "images" in output else []


def _words_under(output: Any, name: str) -> list[str]:
    """What a worker says under a name beside its files, text by text."""
    said = output.get(name) if isinstance(output, dict) else None
    if not said:
        return []
    return [_text(one) for one in (said if isinstance(said, list) else [said])]


def _check_count(output: Any, count: int, expected: int | None, errors: Sequence[str]) -> None:
    wanted = f"{expected} asked for" if expected else "how many were asked for is not known"
    details = {"images": f"{count} returned, {wanted}", "errors": list(errors)}
    if errors and count < (expected or 1):
        raise invalid(f"Only {count} of the images could be made.", details)
    if not count and (expected or _is_comfyui(output)):
        raise _error(OutputMissing, "The job finished without making any image.", details)
    if expected and count < expected:
        raise invalid(f"Only {count} of {expected} images were returned.", details)


def _is_comfyui(output: Any) -> bool:
    return isinstance(output, dict) and output.get("images") == [] and output.keys() <= _COMFYUI_KEYS


def _is_training(output: Any) -> bool:
    """Whether this is what our trainer returns. It has no files where the LoRA is on the worker's volume alone."""
    return isinstance(output, dict) and isinstance(output.get("lora"), dict)


def _without_protocol(rest: Any) -> Any:
    """The rest without worker-comfyui's own words, which are no data of the user's."""
    if not isinstance(rest, dict):
        return rest
    return {key: value for key, value in rest.items() if key not in {"status", "errors", "warnings"}} or None


def _text(value: Any) -> str:
    return redacted(value if isinstance(value, str) else json.dumps(value, default=str))


def _error(kind: type[_E], message: str, details: Any, category: Category = Category.PERMANENT) -> _E:
    return kind(message, {"code": kind.code, "category": category.value, "details": details})
