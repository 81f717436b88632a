"""What ryla_tasks costs, measured beside plain Celery: `make bench`, or `python -m benchmarks`."""

from __future__ import annotations
