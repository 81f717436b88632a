"""A look over everything that jobs rest on: what is well, what is wrong, and what to do about it."""

from __future__ import annotations

from ryla_tasks.doctor.finding import Finding, Level
from ryla_tasks.doctor.rounds import CHECKS, look_over

__all__ = ["CHECKS", "Finding", "Level", "look_over"]
