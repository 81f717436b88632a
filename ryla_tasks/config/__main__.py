"""`python -m ryla_tasks.config > docs/settings.md` makes the page of settings from their models."""

from __future__ import annotations

import sys

from ryla_tasks.config.page import page

sys.stdout.write(page())
