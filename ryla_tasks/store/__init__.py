"""Redis: one Lua file of named operations, and their Python face."""

from __future__ import annotations
