"""How far a training is, from what AI Toolkit prints and logs. Pure: no clock, no files.

Its bars and its log of losses tell the same twice, each late in its own way, so the one that is further on counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from workers.lora_trainer.bars import Bar
from workers.lora_trainer.losses import LossRow

__all__ = ["Progress", "Tracker"]

#: The parts of a job's hundred per cent: the dataset, loading and caching, the training; the rest is storing.
DATASET_ENDS, LOADING_ENDS, TRAINING_ENDS = 2.0, 5.0, 97.0


@dataclass(frozen=True, slots=True)
class Progress:
    """What there is to tell. `percent` is None where nothing new can be said."""

    percent: float | None
    message: str
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    eta_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Without what is not known; as `progress_update` sends it."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in fields.items() if value is not None}


class Tracker:
    """Takes in bars, words and losses as they come; says where the training is.

    `step` never goes back: a bar of something else, or an old line, changes nothing. `phase` is one of loading,
    training, sampling, saving.
    """

    def __init__(self, name: str, steps: int, start: int = 0) -> None:
        self.name = name
        self.steps = steps
        self.start = min(start, steps)
        self.step = self.start
        self.loss: float | None = None
        self.phase = "loading"
        self.warnings: set[str] = set()
        self._aside = ""
        self._left_s: float | None = None
        self._left_at = 0.0
        self._loading = DATASET_ENDS

    def bar(self, bar: Bar, now: float) -> None:
        """A bar was printed at `now`."""
        if bar.name == self.name:
            if bar.done >= self.step and bar.total == self.steps:
                # At the start the bar shows a step before any is done; only a step or a loss says that it trains.
                if bar.done > self.step or bar.loss is not None:
                    self._trains()
                self.step = bar.done
                self._take_loss(bar.loss)
                if bar.left_s is not None:
                    self._left_s, self._left_at = bar.left_s, now
            return
        if bar.name.lower().startswith("generating"):
            self.phase, self._aside = "sampling", f"Painting samples: {bar.done} of {bar.total}"
        elif self.phase == "loading":
            self._aside = f"{bar.name or 'Loading'}: {bar.done} of {bar.total}"
            if bar.name.lower().startswith("caching"):
                share = bar.done / bar.total
                self._loading = max(self._loading, DATASET_ENDS + (LOADING_ENDS - DATASET_ENDS) * share)

    def line(self, line: str) -> None:
        """A line that is no bar was printed."""
        if line.startswith("Saving at step"):
            self.phase, self._aside = "saving", "Saving a checkpoint"
        elif line.startswith("# OOM during training step"):
            self.warnings.add("The GPU ran out of memory in some steps, which were skipped.")

    def losses(self, row: LossRow, now: float) -> None:
        """The log of losses was read at `now`."""
        if row.done < self.step or row.done > self.steps or row.done <= self.start:
            return
        further = row.done > self.step
        if further or self.loss is None:
            self._take_loss(row.loss)
        if further:
            self.step = row.done
            self._trains()
        if row.rate_s is not None and (further or self._left_s is None):
            self._left_s, self._left_at = row.rate_s * (self.steps - self.step), now

    def progress(self, now: float) -> Progress:
        """What to tell at `now`."""
        loss = self.loss if self.loss is not None and math.isfinite(self.loss) else None
        if self.phase == "loading" and self.step == self.start:
            again = f", to go on from step {self.start}" if self.start else ""
            words = self._aside or "Loading the model"
            step = self.start or None
            return Progress(self._percent(), f"{words}{again}", step, self.steps if step else None)
        eta = None if self._left_s is None else round(max(self._left_s - (now - self._left_at), 1.0), 1)
        words = self._aside or "Training"
        return Progress(self._percent(), f"{words}: step {self.step} of {self.steps}", self.step, self.steps, loss, eta)

    def _percent(self) -> float:
        if self.step == 0:
            return round(self._loading, 1)
        return round(LOADING_ENDS + (TRAINING_ENDS - LOADING_ENDS) * self.step / self.steps, 1)

    def _trains(self) -> None:
        self.phase, self._aside = "training", ""

    def _take_loss(self, loss: float | None) -> None:
        if loss is None:
            return
        if not math.isfinite(loss):
            self.warnings.add("The loss is not a number: the learning rate is too high, or an image is bad.")
        self.loss = loss
