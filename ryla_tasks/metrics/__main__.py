"""`python -m ryla_tasks.metrics > docs/metrics.md` makes the page of metrics from the table."""

from __future__ import annotations

import sys

from ryla_tasks.metrics.page import page

sys.stdout.write(page())
