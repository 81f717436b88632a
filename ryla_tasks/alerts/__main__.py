"""`python -m ryla_tasks.alerts > docs/alerts.md` makes the page of alerts from the table."""

from __future__ import annotations

import sys

from ryla_tasks.alerts.page import page

sys.stdout.write(page())
