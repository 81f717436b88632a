"""Artifacts in a folder of this machine, or of a file system that several machines mount."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ryla_tasks.artifacts.base import Artifact, ArtifactError, ArtifactNotFound, InvalidArtifactKey, check_key, describe
from ryla_tasks.artifacts.media import Content

__all__ = ["LocalStore"]

_PIECE = 4 * 1024 * 1024


class LocalStore:
    """Keeps each artifact as a file under `root`, which is made when first needed.

    A put is atomic and durable: the bytes go to a temporary file beside the target, are synced, and are renamed,
    so that a reader never sees half a file and a crash leaves either nothing or all of it. A worker and a web
    process must see the same folder; on several machines that means a shared file system, or S3.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).expanduser().absolute()

    def __repr__(self) -> str:
        return f"LocalStore({str(self.root)!r})"

    def put(self, key: str, data: Content, content_type: str) -> Artifact:
        path = self._path(key)
        with _translated(key):
            if not _holds(path, data):
                _write(path, data)
        return describe(key, data, content_type)

    def get(self, key: str) -> bytes:
        path = self._path(key)
        with _translated(key):
            return path.read_bytes()

    def open(self, key: str) -> BinaryIO:
        path = self._path(key)
        with _translated(key):
            return path.open("rb")

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def url(self, key: str, expires_s: int = 3600) -> str:  # noqa: ARG002 - a file URL does not expire
        """A `file://` URL: it works on this machine and does not expire."""
        return self._path(key).as_uri()

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _translated(key):
            path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        path = self.root / check_key(key)
        # A symbolic link inside the folder must not lead a key out of it.
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise InvalidArtifactKey(f"artifact key {key!r} leads out of the artifact folder")
        return path


def _holds(path: Path, data: Content) -> bool:
    """Whether these very bytes are there. Large files are compared piece by piece."""
    if not path.is_file() or path.stat().st_size != len(data):
        return False
    with path.open("rb") as file:
        return all(file.read(_PIECE) == data[start : start + _PIECE] for start in range(0, len(data), _PIECE))


def _write(path: Path, data: Content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are for their owner alone, and a web server may run under another user.
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; where folders cannot be synced (some network file systems) it is not."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ArtifactNotFound(f"there is no artifact {key!r}") from error
    except OSError as error:
        raise ArtifactError(f"artifact {key!r}: {error.strerror or error}") from error
