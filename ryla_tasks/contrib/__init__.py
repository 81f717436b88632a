"""Web frameworks: `ryla_tasks.contrib.flask` and `ryla_tasks.contrib.django`, on what both share in `web`."""

from __future__ import annotations

__all__: list[str] = []
