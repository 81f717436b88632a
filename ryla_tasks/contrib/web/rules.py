"""What a browser may ask for. Everything else about a job is the app's to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ryla_tasks.contrib.web.visitor import Visitor

__all__ = ["OPTIONS", "TASKS", "Prepare", "Rules"]

#: The tasks that a browser may name, and their names in Celery.
TASKS: Mapping[str, str] = {
    "generate_image": "ryla.generate_image",
    "generate_variations": "ryla.generate_variations",
    "make_character_sheet": "ryla.make_character_sheet",
    "swap_face": "ryla.swap_face",
    "train_lora": "ryla.train_lora",
}

#: The job options that a browser may give; whose job it is, what it may cost and how urgent it is are not among them.
OPTIONS = frozenset({"tags", "idempotency_key"})

#: The app's last word on a wish: it gets who asks, the task's name and the arguments, and returns the arguments to
#: use, with options of its own (`priority`, `max_cost_usd`). It may raise `InvalidJob`.
Prepare = Callable[[Visitor, str, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a browser may ask for, and how large it may be.

    `tasks` maps the names that a browser may use to those in Celery. With `workflows` it may send a whole ComfyUI
    workflow, which runs whatever nodes the GPU worker has. `loras` are the files on the GPU workers' volume that it may
    name: all users' LoRAs are there, and one's own comes with `previous_job`, its training. `most_body` and
    `most_upload` are bytes: a job's input may have 10 MB at RunPod, and a phone's photograph 20.
    """

    tasks: Mapping[str, str] = field(default_factory=lambda: dict(TASKS))
    options: frozenset[str] = OPTIONS
    workflows: bool = False
    loras: frozenset[str] = frozenset()
    most_body: int = 10 * 1024 * 1024
    most_upload: int = 25 * 1024 * 1024
    prepare: Prepare | None = None
