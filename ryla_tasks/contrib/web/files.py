"""The files of a job, to be sent to whoever may see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from ryla_tasks.artifacts import Artifact, ArtifactNotFound, InvalidArtifactKey, LocalStore
from ryla_tasks.artifacts.media import OCTET_STREAM, sniff
from ryla_tasks.artifacts.shared import is_signed
from ryla_tasks.celery_app import current_app
from ryla_tasks.job import Job
from ryla_tasks.tasks.runtime import runtime_of

__all__ = ["JobFile", "SharedFile", "file_of", "find_file", "shared_file"]

#: Types that a browser may show in the page's own origin; anything else is downloaded.
_SHOWN = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif", "video/mp4", "video/webm"})


@dataclass(frozen=True, slots=True)
class JobFile:
    """A file of a job. Where its store makes URLs for others, `url` is one, to redirect to; else it is to be `open`ed
    and sent with `headers`."""

    artifact: Artifact
    url: str | None = None

    def open(self) -> BinaryIO:
        """Its content, to be closed by the caller. Raises `ArtifactNotFound`."""
        return runtime_of(current_app()).artifacts.open(self.artifact.key)

    @property
    def headers(self) -> dict[str, str]:
        """What goes with it. A job's file never changes, and is its owner's alone."""
        artifact = self.artifact
        shown = artifact.content_type in _SHOWN
        return {
            "Content-Type": artifact.content_type if shown else "application/octet-stream",
            "Content-Length": str(artifact.bytes),
            "Content-Disposition": f'{"inline" if shown else "attachment"}; filename="{artifact.filename}"',
            "Cache-Control": "private, max-age=31536000, immutable",
            "ETag": f'"{artifact.sha256}"',
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; sandbox",
        }


def find_file(job: Job, number: int) -> JobFile:
    """A file of a job by its place among them, from 0. Raises `ArtifactNotFound`."""
    artifacts = job.artifacts
    if not 0 <= number < len(artifacts):
        raise ArtifactNotFound(f"the job has no file {number}")
    return file_of(artifacts[number])


def file_of(artifact: Artifact) -> JobFile:
    """An artifact as a file to be sent: of a job whose record is gone, from what an app has kept of it."""
    runtime = runtime_of(current_app())
    local = isinstance(runtime.artifacts, LocalStore)
    return JobFile(
        artifact, None if local else runtime.artifacts.url(artifact.key, runtime.settings.artifact_url_ttl_s)
    )


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A file that whoever has its URL may read until it expires; to be sent as a download."""

    key: str
    content_type: str

    def open(self) -> BinaryIO:
        """Its content, to be closed by the caller. Raises `ArtifactNotFound`."""
        return runtime_of(current_app()).artifacts.open(self.key)

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Content-Type": self.content_type,
            "Content-Disposition": "attachment",
            "Cache-Control": "private, no-store",
            "X-Content-Type-Options": "nosniff",
        }


def shared_file(key: str, expires: str, signature: str) -> SharedFile:
    """The file that a signed URL is for. Raises `ArtifactNotFound` for one that is not ours, has expired, or is of no
    file: the three look alike."""
    runtime = runtime_of(current_app())
    secret, store = runtime.settings.webhook_secret, runtime.artifacts
    if secret is None or not isinstance(store, LocalStore) or not is_signed(secret, key, expires, signature):
        raise ArtifactNotFound("there is no such file")
    try:
        with store.open(key) as file:
            media = sniff(file.read(64))
    except InvalidArtifactKey as error:
        raise ArtifactNotFound("there is no such file") from error
    return SharedFile(key, media.content_type if media else OCTET_STREAM)
