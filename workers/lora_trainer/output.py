"""What a training gives back: the LoRA where ComfyUI reads it and as a file, samples, checkpoints."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from workers.common.storing import Store, StoreFailed
from workers.lora_trainer.errors import TrainingFailed
from workers.lora_trainer.files import copy_whole, digest
from workers.lora_trainer.tensors import read_header

__all__ = ["Uploads", "publish_lora"]

_LORA_TYPE = "application/x-safetensors"
_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
_TRIES = 3
_PAUSE_S = 2.0

log = logging.getLogger(__name__)


async def publish_lora(
    made: Path, name: str, *, on_volume: Path | None, store: Store | None, warnings: list[str]
) -> dict[str, Any]:
    """Put a LoRA where it belongs; the result's `lora`. There is a volume, or a store, or both.

    On the volume it appears whole. Hours of work are not thrown away for one place that fails: where the other took
    the file, that is a warning.
    """
    header = await asyncio.to_thread(read_header, made)
    if header is None:
        raise TrainingFailed("The training made no LoRA that can be read.", {"file": made.name})
    filename = f"{name}.safetensors"
    if on_volume is not None and made != on_volume:
        try:
            await asyncio.to_thread(copy_whole, made, on_volume)
        except OSError as error:
            _go_on_without_volume(error, store, warnings)
            on_volume = None
    sha256 = await asyncio.to_thread(digest, made)
    lora = {"filename": filename, "sha256": sha256, "bytes": header.bytes, "kind": "lora"}
    if store is not None:
        try:
            return {**lora, "type": "s3_url", "data": await _put(store, made, f"loras/{name}/{filename}", _LORA_TYPE)}
        except StoreFailed as failed:
            if on_volume is None:
                raise
            warnings.append(f"The LoRA is on the volume only: the store failed ({failed.details.get('reason')}).")
    return {**lora, "type": "volume", "data": str(on_volume)}


def _go_on_without_volume(error: OSError, store: Store | None, warnings: list[str]) -> None:
    """The volume did not take the LoRA: on to the store, if there is one."""
    if store is None:
        about = {"error_type": type(error).__name__, "error_message": str(error)[:500]}
        raise TrainingFailed("The training failed: its LoRA could not be written to the volume.", about) from None
    warnings.append(f"The LoRA is not on the volume, which could not be written to ({type(error).__name__}).")


async def _put(store: Store, path: Path, key: str, content_type: str) -> str:
    for number in range(1, _TRIES):
        try:
            return await store.put(path, key, content_type)
        except StoreFailed as failed:
            log.warning("storing %s failed (%s), trying again", path.name, failed.details.get("reason"))
        await asyncio.sleep(_PAUSE_S * number)
    return await store.put(path, key, content_type)


class Uploads:
    """Stores checkpoints and samples while the training goes on, one after the other. None of them is worth a failure.

    Close it, whatever happens.
    """

    def __init__(self, store: Store | None, name: str, warnings: list[str]) -> None:
        self.files: list[dict[str, Any]] = []
        self._store = store
        self._name = name
        self._warnings = warnings
        self._queue: asyncio.Queue[tuple[Path, str]] = asyncio.Queue()
        self._task = asyncio.create_task(self._run())

    def add(self, path: Path, kind: str) -> None:
        """Store this file when its turn comes. Without a store nothing happens."""
        if self._store is not None:
            self._queue.put_nowait((path, kind))

    async def finish(self) -> None:
        """Wait until all is stored."""
        await self._queue.join()

    async def close(self) -> None:
        """Leave the rest."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            path, kind = await self._queue.get()
            try:
                await self._upload(path, kind)
            finally:
                self._queue.task_done()

    async def _upload(self, path: Path, kind: str) -> None:
        assert self._store is not None
        content_type = _TYPES.get(path.suffix, _LORA_TYPE)
        try:
            size = path.stat().st_size
            url = await _put(self._store, path, f"loras/{self._name}/{kind}s/{path.name}", content_type)
        except (StoreFailed, OSError) as failed:
            # AI Toolkit removes old checkpoints; one that is gone before its turn came is no loss.
            self._warnings.append(f"{path.name} was not stored ({type(failed).__name__}).")
            return
        self.files.append({"filename": path.name, "type": "s3_url", "data": url, "bytes": size, "kind": kind})
