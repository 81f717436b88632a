"""The parts of the settings: GPU prices, targets, endpoints, sources. Import them from `ryla_tasks.settings`."""

from __future__ import annotations
