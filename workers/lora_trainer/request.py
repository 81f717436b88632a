"""What a training is asked for with: checked as a whole before anything is fetched or paid for."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from workers.lora_trainer.errors import DatasetInvalid, RequestInvalid

__all__ = ["BASE_MODELS", "BaseModelName", "ImageSource", "Ryla", "TrainingRequest", "parse_request"]

BaseModelName = Literal["flux", "sdxl", "qwen", "z-image"]
BASE_MODELS: tuple[str, ...] = get_args(BaseModelName)

_FEWEST_IMAGES = 3
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_DATASET_FIELDS = frozenset({"images", "dataset_url"})


def _one_line(value: Any) -> Any:
    """Text on one line, without control characters: it goes into files that other programs read by the line."""
    if not isinstance(value, str):
        return value
    kept = "".join(" " if char.isspace() else char for char in value)
    return " ".join("".join(char for char in kept if unicodedata.category(char) not in ("Cc", "Cs")).split())


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def _as_source(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


Line = Annotated[str, BeforeValidator(_one_line)]
Side = Annotated[int, Field(ge=256, le=2048, multiple_of=64)]


class _Strict(BaseModel):
    # Values of a request may be secrets (presigned URLs) or private (prompts): they are not shown in an error.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ImageSource(_Strict):
    """One image to train on. Where it has no caption, the trigger word is its caption."""

    url: Annotated[str, Field(min_length=8, max_length=4_096)]
    caption: Annotated[Line, Field(max_length=2_000)] = ""


class Ryla(BaseModel):
    """What `ryla_tasks` says of its job. Nothing of it is needed."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    job_id: str = ""
    attempt: int = 1
    correlation_id: str = ""
    webhook: str = ""


class TrainingRequest(_Strict):
    """A training. Exactly one of `images` and `dataset_url` (a zip of images, with `x.txt` for `x.jpg`) is given."""

    trigger_word: Annotated[Line, Field(min_length=1, max_length=100)]
    images: Annotated[list[Annotated[ImageSource, BeforeValidator(_as_source)]], Field(max_length=500)] | None = None
    dataset_url: Annotated[str, Field(min_length=8, max_length=4_096)] | None = None
    base_model: BaseModelName = "flux"
    steps: Annotated[int, Field(ge=1, le=20_000)] = 2_000
    rank: Annotated[int, Field(ge=1, le=256)] = 16
    resolution: Annotated[list[Side], BeforeValidator(_as_list), Field(min_length=1, max_length=5)] = [512, 768, 1024]
    learning_rate: Annotated[float, Field(ge=1e-7, le=1e-2, allow_inf_nan=False)] = 1e-4
    caption_dropout: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.05
    sample_prompts: Annotated[list[Annotated[Line, Field(min_length=1, max_length=2_000)]], Field(max_length=8)] = []
    name: Annotated[Line, Field(max_length=100)] = ""
    save_every: Annotated[int, Field(ge=1, le=20_000)] = 250
    batch_size: Annotated[int, Field(ge=1, le=8)] = 1
    quantize: bool | None = None
    low_vram: bool | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    ryla: Ryla = Ryla()
    #: What a chain of `ryla_tasks` puts into the input of an endpoint; nothing here needs it.
    previous: Any = None

    @model_validator(mode="after")
    def _has_one_dataset(self) -> TrainingRequest:
        if (self.images is None) == (self.dataset_url is None):
            raise DatasetInvalid("images", "give either images or dataset_url")
        if self.images is not None and len(self.images) < _FEWEST_IMAGES:
            raise DatasetInvalid("images", f"at least {_FEWEST_IMAGES} images are needed, there are {len(self.images)}")
        return self

    @property
    def resolutions(self) -> list[int]:
        """The sides to train at, each once, the smallest first."""
        return sorted(set(self.resolution))

    def fingerprint(self) -> str:
        """The same for requests that train the same LoRA. Signatures in URLs do not count: they are made anew."""
        asked = self.model_dump(exclude={"ryla", "name", "previous"})
        for source in asked["images"] or ():
            source["url"] = _unsigned(source["url"])
        asked["dataset_url"] = _unsigned(asked["dataset_url"] or "")
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def run_name(self, remote_id: str) -> str:
        """The name of the run and of its LoRA: the correlation id, or else RunPod's id of the job."""
        return _file_name(self.ryla.correlation_id, "ryla.correlation_id") or _file_name(remote_id, "id")

    def folder_name(self, remote_id: str) -> str:
        """The name of what is kept on the volume: the same for all attempts of a job."""
        return _file_name(self.ryla.job_id, "ryla.job_id") or self.run_name(remote_id)


def parse_request(job_input: Any) -> TrainingRequest:
    """The request in a job's input. Raises `RequestInvalid` or `DatasetInvalid`, with the field at fault."""
    if not isinstance(job_input, dict):
        raise RequestInvalid("input", "must be an object")
    try:
        return TrainingRequest.model_validate(job_input)
    except ValidationError as error:
        faults = [(_path(fault["loc"]), _lower(fault["msg"])) for fault in error.errors(include_url=False)]
        (field, reason), kind = faults[0], RequestInvalid
        if field.split(".")[0] in _DATASET_FIELDS:
            kind = DatasetInvalid
        raise kind(field, reason, fields=[name for name, _ in faults[:20]]) from None


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "input"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _file_name(text: str, field: str) -> str:
    if text and not _ID.match(text):
        raise RequestInvalid(field, "must be letters, digits, dots, dashes and underscores, at most 128")
    return text


def _unsigned(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
