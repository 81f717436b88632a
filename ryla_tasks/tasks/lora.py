"""`train_lora`: a LoRA of a character, from some images of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ryla_tasks.artifacts import ArtifactError, ArtifactNotFound, ArtifactStore, store_of
from ryla_tasks.errors import InvalidJob
from ryla_tasks.settings import get_settings
from ryla_tasks.tasks.plan import JobPlan
from ryla_tasks.tasks.previous import artifacts_of

__all__ = ["BASE_MODELS", "expected_training_s", "train_lora"]

#: Seconds a step on a 24 GB card at a resolution of 1024 and less, by base model: what is told before the first run.
BASE_MODELS: Mapping[str, float] = {"flux": 2.0, "sdxl": 1.0, "qwen": 2.4, "z-image": 1.4}

#: Loading the base model, caching the images, samples and the upload.
_AROUND_S = 420.0

FEWEST_IMAGES, MOST_IMAGES = 3, 500
_MOST_URL = 4_096
_MOST_CAPTION = 2_000

#: A presigned URL of an image must outlive the queue.
_URL_TTL_S = 2 * 86_400

#: What only a simulated GPU worker can reach: for development.
_LOOPBACK = ("http://127.0.0.1:", "http://localhost:")

#: No control characters, and nothing that is not text: the worker leaves them out, and then too little may be left.
_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*")


def train_lora(
    previous: Any = None,
    *,
    trigger_word: str | None = None,
    images: Sequence[str | Mapping[str, Any]] | None = None,
    dataset_url: str | None = None,
    base_model: str = "flux",
    steps: int = 2_000,
    rank: int = 16,
    resolution: int | Sequence[int] = (512, 768, 1024),
    learning_rate: float = 1e-4,
    caption_dropout: float | None = None,
    sample_prompts: Sequence[str] = (),
    name: str = "",
) -> JobPlan:
    """Train a LoRA with AI Toolkit on the `lora` endpoint. With the defaults that takes 1 to 1.5 hours.

    `images` are at least 3: each an https URL, `{"url": ..., "caption": ...}`, or an artifact of a result (with a
    `caption`, if you like), for which a URL is made; or give `dataset_url`, that of a zip with `x.txt` beside `x.jpg`
    for its caption. Without either, the images of the `previous` result in a chain are taken. An image without a
    caption gets the `trigger_word`. `base_model` is flux, sdxl, qwen or z-image; `resolution` is a side or several, in
    steps of 64; `name` is for people.

    The result has the LoRA among its artifacts. In a chain an image job after it uses it: see `generate_image`.
    Raises `InvalidJob` naming the field.
    """
    if base_model not in BASE_MODELS:
        raise InvalidJob(
            f"base_model: {str(base_model)[:40]!r} is none of {', '.join(BASE_MODELS)}", field="base_model"
        )
    sides = _sides(resolution)
    job_input: dict[str, Any] = {
        "trigger_word": _line(trigger_word, "trigger_word", 1, 100),
        **_dataset(previous, images, dataset_url),
        "base_model": base_model,
        "steps": _whole(steps, "steps", 1, 20_000),
        "rank": _whole(rank, "rank", 1, 256),
        "resolution": sides,
        "learning_rate": _number(learning_rate, "learning_rate", 1e-7, 1e-2),
    }
    if caption_dropout is not None:
        job_input["caption_dropout"] = _number(caption_dropout, "caption_dropout", 0.0, 1.0)
    if prompts := _prompts(sample_prompts):
        job_input["sample_prompts"] = prompts
    if name:
        job_input["name"] = _line(name, "name", 1, 100)
    expected_s = expected_training_s(base_model, steps, max(sides))
    _check_time(expected_s)
    return JobPlan(job_input, expected_run_s=expected_s, label=f"lora {base_model}")


def expected_training_s(base_model: str, steps: int, resolution: int) -> float:
    """How many seconds a training is likely to take on a warm worker: a rough guess."""
    pixels = max(0.4, (resolution / 1024) ** 2)
    return round(_AROUND_S + steps * BASE_MODELS[base_model] * pixels)


def _check_time(expected_s: float) -> None:
    """A training that would be stopped before it is done would be paid for all the same."""
    endpoint = get_settings().endpoints.get("lora")
    if endpoint is not None and expected_s > endpoint.execution_timeout_s:
        raise InvalidJob(
            f"steps: so many would take about {expected_s / 3600:.1f} h, and the endpoint stops a run after "
            f"{endpoint.execution_timeout_s / 3600:.1f} h (execution_timeout_s)",
            field="steps",
        )


def _dataset(previous: Any, images: Any, dataset_url: Any) -> dict[str, Any]:
    if images is not None and dataset_url is not None:
        raise InvalidJob("images: give either images or dataset_url", field="images")
    if dataset_url is not None:
        return {"dataset_url": _https(dataset_url, "dataset_url")}
    if images is None:
        images = [one for one in artifacts_of(previous) if str(one["content_type"]).startswith("image/")]
    if isinstance(images, str | Mapping) or not isinstance(images, Sequence):
        raise InvalidJob("images: must be a list", field="images")
    if not FEWEST_IMAGES <= len(images) <= MOST_IMAGES:
        raise InvalidJob(
            f"images: {FEWEST_IMAGES} to {MOST_IMAGES} images are needed, not {len(images)}", field="images"
        )
    store = store_of(get_settings())
    return {"images": [_image(store, one, f"images.{place}") for place, one in enumerate(images)]}


def _image(store: ArtifactStore, one: Any, field: str) -> dict[str, str]:
    if isinstance(one, str):
        return {"url": _https(one, field)}
    if not isinstance(one, Mapping) or ("url" in one) == ("key" in one):
        raise InvalidJob(f'{field}: is an https URL, {{"url", "caption"}}, or an artifact of a result', field=field)
    url = _https(one["url"], f"{field}.url") if "url" in one else _artifact_url(store, one["key"], field)
    caption = one.get("caption")
    return {"url": url, "caption": _line(caption, f"{field}.caption", 0, _MOST_CAPTION)} if caption else {"url": url}


def _artifact_url(store: ArtifactStore, key: Any, field: str) -> str:
    try:
        if not store.exists(key):
            raise ArtifactNotFound(f"there is no artifact {key!r}")
        url = store.url(key, _URL_TTL_S)
    except ArtifactError as error:
        raise InvalidJob(f"{field}: {error}", field=field) from error
    if not url.startswith(("https://", *_LOOPBACK)):
        raise InvalidJob(
            f"{field}: a GPU worker cannot read the artifact store ({url.partition(':')[0]}); RYLA_ARTIFACTS must be "
            f"S3 with https for that, or RYLA_ARTIFACTS_URL an https address, or give https URLs",
            field=field,
        )
    return url


def _https(url: Any, field: str) -> str:
    """A URL that a GPU worker may fetch. It is a secret: no error shows it."""
    try:
        parts = urlsplit(url) if isinstance(url, str) and len(url) <= _MOST_URL else None
        usable = parts is not None and parts.scheme == "https" and bool(parts.hostname) and parts.username is None
    except ValueError:
        usable = False
    if not usable or re.search(r"[\x00-\x20\x7f]", url):
        raise InvalidJob(f"{field}: must be an https URL of at most {_MOST_URL} characters", field=field)
    return str(url)


def _line(text: Any, field: str, fewest: int, most: int) -> str:
    if not isinstance(text, str) or not fewest <= len(text.strip()) <= most or not _LINE.fullmatch(text):
        raise InvalidJob(f"{field}: must be text of {fewest} to {most} characters on one line", field=field)
    return text.strip()


def _whole(number: Any, field: str, low: int, high: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise InvalidJob(f"{field}: must be a whole number from {low} to {high}", field=field)
    return number


def _number(number: Any, field: str, low: float, high: float) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise InvalidJob(f"{field}: must be a number from {low:g} to {high:g}", field=field)
    if not low <= number <= high:
        raise InvalidJob(f"{field}: must be a number from {low:g} to {high:g}", field=field)
    return float(number)


def _sides(resolution: Any) -> list[int]:
    sides = [resolution] if isinstance(resolution, int) else resolution
    if isinstance(sides, str) or not isinstance(sides, Sequence) or not 1 <= len(sides) <= 5:
        raise InvalidJob("resolution: must be a side, or a list of 1 to 5 of them", field="resolution")
    found = [_whole(side, "resolution", 256, 2_048) for side in sides]
    if odd := [side for side in found if side % 64]:
        raise InvalidJob(f"resolution: {odd[0]} is no multiple of 64", field="resolution")
    return sorted(set(found))


def _prompts(prompts: Any) -> list[str]:
    if isinstance(prompts, str) or not isinstance(prompts, Sequence) or len(prompts) > 8:
        raise InvalidJob("sample_prompts: must be a list of at most 8 texts", field="sample_prompts")
    return [_line(one, f"sample_prompts.{place}", 1, _MOST_CAPTION) for place, one in enumerate(prompts)]
