"""The Celery tasks: the engine's steps, and the tasks that users call."""

from __future__ import annotations
