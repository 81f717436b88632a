"""Images that come from a browser for a job: kept in the artifact store, under their owner."""

from __future__ import annotations

import hashlib
from typing import Any

from ryla_tasks.artifacts import Artifact, InvalidArtifactKey
from ryla_tasks.artifacts.base import check_key
from ryla_tasks.artifacts.media import BadFile, inspect
from ryla_tasks.celery_app import current_app
from ryla_tasks.contrib.web.rules import Rules
from ryla_tasks.contrib.web.visitor import Visitor
from ryla_tasks.errors import InvalidJob, JobNotFound, PayloadTooLarge
from ryla_tasks.tasks.runtime import runtime_of

__all__ = ["owns", "store_upload"]

_FOLDER = "uploads"


def store_upload(visitor: Visitor, data: bytes, rules: Rules) -> Artifact:
    """Keep an image. The same image of the same visitor is kept once. It is an argument of a job as it is given back.

    Raises `PayloadTooLarge`, `InvalidJob` for what is no whole PNG, JPEG, WebP or GIF, and `ArtifactError`.
    """
    if len(data) > rules.most_upload:
        raise PayloadTooLarge(f"file: has more than {rules.most_upload} bytes", field="file")
    try:
        media = inspect(data)
    except BadFile as error:
        raise InvalidJob(f"file: is unusable: {error}", field="file") from None
    if media is None or not media.content_type.startswith("image/"):
        raise InvalidJob("file: is no PNG, JPEG, WebP or GIF", field="file")
    name = f"{hashlib.sha256(data).hexdigest()[:32]}.{media.extension}"
    store = runtime_of(current_app()).artifacts
    return store.put(f"{_FOLDER}/{_owner(visitor)}/{name}", data, media.content_type)


def owns(visitor: Visitor, key: Any) -> bool:
    """Whether an artifact is the visitor's: an upload of theirs, or a file of a job that they may see."""
    try:
        folder, owner, *_rest = check_key(key).split("/")
    except (InvalidArtifactKey, ValueError):
        return False
    if folder == _FOLDER:
        return owner == _owner(visitor)
    try:
        # Keys are KIND/JOB/ATTEMPT/NAME. A job whose id is no plain text has another name there, and is nobody's.
        record, _now = runtime_of(current_app()).store.load(owner)
    except JobNotFound:
        return False
    return visitor.may_see(record)


def _owner(visitor: Visitor) -> str:
    return hashlib.sha256(visitor.user_id.encode()).hexdigest()[:32]
