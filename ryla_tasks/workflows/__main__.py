"""`python -m ryla_tasks.workflows > docs/templates.md` makes the page of templates from their manifests."""

from __future__ import annotations

import sys

from ryla_tasks.workflows.page import page

sys.stdout.write(page())
