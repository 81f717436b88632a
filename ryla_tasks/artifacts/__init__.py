"""A job's output: decoded, checked, and kept in a folder or an S3 bucket."""

from __future__ import annotations

from ryla_tasks.artifacts.base import (
    Artifact,
    ArtifactError,
    ArtifactNotFound,
    ArtifactStore,
    ArtifactStoreUnavailable,
    InvalidArtifactKey,
)
from ryla_tasks.artifacts.download import Downloaded, fetch_url
from ryla_tasks.artifacts.factory import open_store, store_of
from ryla_tasks.artifacts.local import LocalStore
from ryla_tasks.artifacts.output import DecodedOutput, OutputFile, OutputLimits, collect, decode_output

__all__ = [
    "Artifact",
    "ArtifactError",
    "ArtifactNotFound",
    "ArtifactStore",
    "ArtifactStoreUnavailable",
    "DecodedOutput",
    "Downloaded",
    "InvalidArtifactKey",
    "LocalStore",
    "OutputFile",
    "OutputLimits",
    "collect",
    "decode_output",
    "fetch_url",
    "open_store",
    "store_of",
]
