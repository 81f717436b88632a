"""`python -m ryla_tasks.jobs.verdicts > docs/errors.md` makes the page of errors from the table."""

from __future__ import annotations

import sys

from ryla_tasks.jobs.verdicts.page import page

sys.stdout.write(page())
