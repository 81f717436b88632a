"""What the host's web process does: enqueue canvases through its own app, with ryla_tasks installed.

    python -m tests.support.host_project.web CANVAS KEY

prints the canvas' result as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from celery import chain, chord

import ryla_tasks
from tests.support.host_project import tasks
from tests.support.host_project.installed import app, echo


def image(**more: Any) -> Any:
    return ryla_tasks.generate_image.s(template="z-image-turbo", width=64, height=64, prompt="a hut", **more)


def main(canvas: str, key: str) -> None:
    made = {
        "chain": lambda: chain(tasks.describe.s("a boat"), echo.s(n=1), image(seed=3), tasks.note.s(key=key)),
        "routed": lambda: chain(image(seed=3), tasks.routed.s(key=key)),
        "chord": lambda: chord([image(seed=seed) for seed in range(3)], tasks.note.s(key=key)),
    }[canvas]()
    result = made.delay()
    value = result.get(timeout=30)
    app_of_jobs = ryla_tasks.generate_image.app
    print(json.dumps({"value": value, "same_app": app_of_jobs is app, "id": result.id}))


if __name__ == "__main__":
    main(*sys.argv[1:])
