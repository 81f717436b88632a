"""A training from the request to the result."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workers.common.reporting import Reporter
from workers.common.storing import Store
from workers.lora_trainer import progress
from workers.lora_trainer.checkpoints import CheckpointWatch
from workers.lora_trainer.config import config_text, make_config
from workers.lora_trainer.dataset import Dataset, prepare
from workers.lora_trainer.errors import TrainerMisconfigured, TrainingTimeOut
from workers.lora_trainer.files import copy_whole
from workers.lora_trainer.oom import failure_of
from workers.lora_trainer.output import Uploads, publish_lora
from workers.lora_trainer.progress import Tracker
from workers.lora_trainer.request import TrainingRequest
from workers.lora_trainer.resume import Finished, Kept, sweep
from workers.lora_trainer.settings import Settings
from workers.lora_trainer.watching import Run

__all__ = ["Training", "tidy"]


@dataclass
class Training:
    """One job. `remote_id` is RunPod's; `env` what AI Toolkit inherits."""

    request: TrainingRequest
    remote_id: str
    settings: Settings
    store: Store | None
    reporter: Reporter
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    warnings: list[str] = field(default_factory=list)

    async def run(self) -> dict[str, Any]:
        """The result. Raises the `JobFailure` that it ends with; leaves nothing behind but what is on the volume."""
        self.deadline = time.monotonic() + self.settings.time_limit_s
        self._check_worker()
        kept = await self._open_kept()
        finished = await asyncio.to_thread(kept.finished) if kept is not None else None
        if finished is not None:
            return await self._give_again(finished, kept)
        workspace = self.settings.work / f"{self.name}-{os.getpid()}-{secrets.token_hex(3)}"
        uploads = Uploads(self.store, self.name, self.warnings)
        try:
            return await self._train(workspace, kept, uploads)
        finally:
            await uploads.close()
            await asyncio.to_thread(shutil.rmtree, workspace, ignore_errors=True)

    @property
    def name(self) -> str:
        """The name of the run, its files and its LoRA."""
        return self.request.run_name(self.remote_id)

    def _check_worker(self) -> None:
        """Before a minute of GPU time is paid for: can the result go anywhere, is there anything to train with?"""
        if self.store is None and self.settings.volume is None:
            raise TrainerMisconfigured(
                "The GPU worker has nowhere to put a LoRA: attach a network volume, or set BUCKET_ENDPOINT_URL."
            )
        if not (self.settings.toolkit / "run.py").is_file():
            raise TrainerMisconfigured(
                "AI Toolkit is not on the GPU worker.", {"RYLA_TRAINER_TOOLKIT": str(self.settings.toolkit)}
            )

    async def _open_kept(self) -> Kept | None:
        volume = self.settings.volume
        if volume is None:
            return None
        kept = Kept(volume, self.request.folder_name(self.remote_id), self.request.fingerprint())
        try:
            await asyncio.to_thread(sweep, volume, self.settings.keep_days)
            await asyncio.to_thread(kept.open)
        except OSError as error:
            raise TrainerMisconfigured(
                "The network volume of the GPU worker cannot be written to.",
                {"error_type": type(error).__name__, "error_message": str(error)[:500]},
            ) from None
        return kept

    async def _train(self, workspace: Path, kept: Kept | None, uploads: Uploads) -> dict[str, Any]:
        dataset = await self._dataset(workspace / "dataset")
        self.warnings.extend(dataset.warnings)
        output = workspace / "output" / self.name
        await asyncio.to_thread(output.mkdir, parents=True)
        restored, start = await asyncio.to_thread(kept.restore, output, self.name) if kept is not None else ("", 0)
        run = Run(
            config=await asyncio.to_thread(self._write_config, workspace, dataset.folder),
            output=output,
            tracker=Tracker(self.name, self.request.steps, start),
            watch=CheckpointWatch(output, self.name),
            settings=self.settings,
            reporter=self.reporter,
            uploads=uploads,
            kept=kept,
            deadline=self.deadline,
            env=self.env,
        )
        run.watch.skip(restored)
        code = await run.until_end()
        self.warnings.extend(sorted(run.tracker.warnings))
        made = output / f"{self.name}.safetensors"
        if code != 0 or not made.is_file():
            raise failure_of(
                code, run.tail.lines(), self.request,
                step=run.tracker.step, phase=run.tracker.phase, gpu_gb=self.settings.gpu_gb,
            )  # fmt: skip
        return await self._publish(made, run.tracker, kept, uploads)

    async def _dataset(self, folder: Path) -> Dataset:
        def told(done: int, total: int) -> None:
            self.reporter.tell(progress.DATASET_ENDS * done / max(total, 1), f"Fetching images: {done} of {total}")

        self.reporter.tell(0.0, "Fetching images")
        try:
            async with asyncio.timeout(self.settings.dataset_s):
                return await prepare(self.request, folder, self.settings, told)
        except TimeoutError:
            raise TrainingTimeOut(
                "The images of the training could not be fetched in time.", {"phase": "dataset"}
            ) from None

    def _write_config(self, workspace: Path, images: Path) -> Path:
        config = make_config(
            self.request, name=self.name, images=images, output=workspace / "output", gpu_gb=self.settings.gpu_gb
        )
        path = workspace / "config.json"
        path.write_text(config_text(config), "utf-8")
        return path

    async def _publish(self, made: Path, tracker: Tracker, kept: Kept | None, uploads: Uploads) -> dict[str, Any]:
        self.reporter.tell(progress.TRAINING_ENDS, "Storing the LoRA", step=tracker.step, steps=tracker.steps)
        loss = tracker.loss if tracker.loss is not None and math.isfinite(tracker.loss) else None
        on_volume = kept.lora(self.name) if kept is not None else None
        lora = await publish_lora(made, self.name, on_volume=on_volume, store=self.store, warnings=self.warnings)
        await uploads.finish()
        files = uploads.files
        if kept is not None and on_volume is not None:
            facts = {"steps": self.request.steps, "final_loss": loss, "sha256": lora["sha256"]}
            try:
                if self.store is None:
                    files = await asyncio.to_thread(_samples_on_volume, made.parent / "samples", kept.samples())
                await asyncio.to_thread(kept.finish, on_volume, facts)
            except OSError as error:
                self.warnings.append(f"The volume could not be written to ({type(error).__name__}).")
        return self._result(lora, files, loss)

    async def _give_again(self, finished: Finished, kept: Kept | None) -> dict[str, Any]:
        """The worker before this one had trained it, and was lost before its answer arrived."""
        assert kept is not None
        self.reporter.tell(progress.TRAINING_ENDS, "Storing the LoRA")
        lora = await publish_lora(
            finished.lora, self.name, on_volume=kept.lora(self.name), store=self.store, warnings=self.warnings
        )
        self.warnings.append("The LoRA was trained by an earlier worker; its samples and checkpoints are not listed.")
        return self._result(lora, [], finished.final_loss)

    def _result(self, lora: dict[str, Any], files: list[dict[str, Any]], loss: float | None) -> dict[str, Any]:
        return {
            "lora": lora,
            "files": files,
            "steps": self.request.steps,
            "final_loss": loss,
            "base_model": self.request.base_model,
            "trigger_word": self.request.trigger_word,
            "name": self.request.name,
            "warnings": self.warnings,
        }


def _samples_on_volume(made: Path, to: Path) -> list[dict[str, Any]]:
    files = []
    for sample in sorted(made.glob("*")):
        target = to / sample.name
        copy_whole(sample, target)
        kind = {"type": "volume", "data": str(target), "bytes": target.stat().st_size, "kind": "sample"}
        files.append({"filename": sample.name, **kind})
    return files


def tidy(work: Path) -> None:
    """Remove what killed workers have left in the work folder. Blocks."""
    for folder in work.glob("*-*-*/"):
        pid = folder.name.rsplit("-", 2)[1]
        if pid.isdigit() and int(pid) != os.getpid() and not _lives(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _lives(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        try:
            os.kill(pid, 0)
        except PermissionError:
            return True
        return True
    return False
