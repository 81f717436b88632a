"""What is kept of a job's output, and the interface of the places that keep it."""

from __future__ import annotations

import builtins
import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Protocol, Self

from ryla_tasks.artifacts.media import Content
from ryla_tasks.errors import RylaError

__all__ = [
    "Artifact",
    "ArtifactError",
    "ArtifactNotFound",
    "ArtifactStore",
    "ArtifactStoreUnavailable",
    "InvalidArtifactKey",
    "check_key",
    "describe",
]

MAX_KEY_LENGTH = 512

# Segments never start with a dot: that shuts out "." and "..", and leaves dot names to a store's temporary files.
_SEGMENT = re.compile(r"[A-Za-z0-9_@=+,~-][A-Za-z0-9_@=+,~.-]{0,199}", re.ASCII)


class ArtifactError(RylaError):
    """The artifact store could not do what was asked."""


class ArtifactNotFound(ArtifactError, KeyError):
    """The artifact store holds nothing under this key."""

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return Exception.__str__(self)


class ArtifactStoreUnavailable(ArtifactError):
    """The artifact store did not answer. Trying again later may work."""


class InvalidArtifactKey(ArtifactError, ValueError):
    """The key is not a plain relative path of letters, digits and `_ @ = + , ~ . -`."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One stored file. Holds no URL and no content: URLs expire, so they are made when somebody reads.

    `bytes` is the size; `filename` is a name for people, `key` the one for the store.
    """

    key: str
    content_type: str
    bytes: int
    sha256: str
    filename: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, as it stands in a job's result."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Unknown fields are ignored, so that an older reader takes a newer result."""
        return cls(
            key=str(value["key"]),
            content_type=str(value["content_type"]),
            bytes=int(value["bytes"]),
            sha256=str(value["sha256"]),
            filename=str(value["filename"]),
        )


class ArtifactStore(Protocol):
    """A place that keeps files under keys. Safe for use by many threads.

    Every method raises `InvalidArtifactKey` for a key that is not a plain relative path, and otherwise only
    `ArtifactError`s (`ArtifactStoreUnavailable` where another try may work) and `ConfigurationError`.
    """

    def put(self, key: str, data: Content, content_type: str) -> Artifact:
        """Store `data` whole or not at all. Putting the same key and bytes again changes nothing; other bytes
        replace what was there."""
        ...

    def get(self, key: str) -> builtins.bytes:
        """The whole content; `ArtifactNotFound` if there is none."""
        ...

    def open(self, key: str) -> BinaryIO:
        """A binary stream over the content, to be closed by the caller; `ArtifactNotFound` if there is none."""
        ...

    def exists(self, key: str) -> bool:
        """Whether something is stored under the key."""
        ...

    def url(self, key: str, expires_s: int = 3600) -> str:
        """A URL to read the content from, valid for `expires_s` seconds where the store can limit it.

        Whoever has it can read the file: it is a secret, never to be stored or logged.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove the content. Removing what is not there is fine."""
        ...


def check_key(key: str) -> str:
    """Return the key if it is a plain relative path, else raise `InvalidArtifactKey`."""
    if not isinstance(key, str) or not key or len(key) > MAX_KEY_LENGTH:
        raise InvalidArtifactKey(f"an artifact key is 1 to {MAX_KEY_LENGTH} characters of text")
    for segment in key.split("/"):
        if not _SEGMENT.fullmatch(segment):
            raise InvalidArtifactKey(
                f"artifact key {key!r}: {segment!r} may not be part of it; a key is a relative path such as "
                "'jobs/ab12/00-9f3c.png', of letters, digits and _ @ = + , ~ . -, no part starting with a dot"
            )
    return key


def describe(key: str, data: Content, content_type: str) -> Artifact:
    """The `Artifact` for these bytes, named after the last part of the key."""
    return Artifact(
        key=key,
        content_type=content_type,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        filename=key.rpartition("/")[2],
    )
