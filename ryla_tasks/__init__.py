"""GPU jobs on RunPod serverless endpoints, from Python web apps, with Celery and Redis.

    from ryla_tasks import generate_image, Job

    job_id = generate_image.delay(template="z-image-turbo", prompt="a lighthouse at dusk", user_id="42").id
    Job.get(job_id).progress

Importing this package reads no settings and connects to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ryla_tasks import errors

if TYPE_CHECKING:
    from ryla_tasks.celery_app import (
        app,
        generate_image,
        generate_variations,
        install,
        make_character_sheet,
        run_endpoint,
        swap_face,
        train_lora,
    )
    from ryla_tasks.job import Job, list_jobs
    from ryla_tasks.settings import configure, get_settings
    from ryla_tasks.tasks.base import ServerlessTask
    from ryla_tasks.tasks.plan import CellPlan, FallbackPlan, JobPlan

__all__ = [
    "CellPlan",
    "FallbackPlan",
    "Job",
    "JobPlan",
    "ServerlessTask",
    "app",
    "configure",
    "errors",
    "generate_image",
    "generate_variations",
    "get_settings",
    "install",
    "list_jobs",
    "make_character_sheet",
    "run_endpoint",
    "swap_face",
    "train_lora",
]

#: Where each public name lives. Loaded when first used, so that `import ryla_tasks.errors` does not load Celery.
_HOMES = {
    "CellPlan": "tasks.plan",
    "FallbackPlan": "tasks.plan",
    "Job": "job",
    "JobPlan": "tasks.plan",
    "ServerlessTask": "tasks.base",
    "app": "celery_app",
    "configure": "settings",
    "generate_image": "celery_app",
    "generate_variations": "celery_app",
    "get_settings": "settings",
    "install": "celery_app",
    "list_jobs": "job",
    "make_character_sheet": "celery_app",
    "run_endpoint": "celery_app",
    "swap_face": "celery_app",
    "train_lora": "celery_app",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
