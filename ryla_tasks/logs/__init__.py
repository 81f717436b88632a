"""Log lines as events with a name and fields, on the standard library's loggers.

A line is written with `Log`, whose first argument is a name from the table in `events` (docs/logs.md). Handlers belong
to the host: where nobody has set up any, the standard library's own rules hold. Our own processes use `use_format`.
"""

from __future__ import annotations

from ryla_tasks.logs.events import EVENTS
from ryla_tasks.logs.log import Log, about

__all__ = ["EVENTS", "Log", "about"]
