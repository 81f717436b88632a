"""Flower for ryla_tasks:

    celery -A ryla_tasks flower --conf=deploy/flower/flowerconfig.py

All that is secret or differs from machine to machine comes from FLOWER_ variables; docs/flower.md lists them.
"""

import sys

from ryla_tasks.errors import ConfigurationError
from ryla_tasks.flower import flower_options, format_task

__all__ = ["format_task"]

try:
    globals().update(flower_options())
except ConfigurationError as error:
    sys.exit(f"Flower is not started: {error}")
