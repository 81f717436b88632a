"""`python -m ryla_tasks.logs > docs/logs.md` makes the page of events from the table."""

from __future__ import annotations

import sys

from ryla_tasks.logs.page import page

sys.stdout.write(page())
