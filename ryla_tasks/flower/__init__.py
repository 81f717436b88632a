"""Flower for ryla_tasks: rows that show how jobs stand, and a configuration that does not start open to strangers.

In a `flowerconfig.py` (see `deploy/flower`):

    from ryla_tasks.flower import flower_options, format_task

    globals().update(flower_options())
"""

from __future__ import annotations

from ryla_tasks.flower.guard import flower_options
from ryla_tasks.flower.rows import format_task

__all__ = ["flower_options", "format_task"]
