"""Redis: a folder of named operations in Lua, and their Python face."""

from __future__ import annotations
