"""The programs that simulated GPU workers run."""

from __future__ import annotations

from collections.abc import Mapping

from .base import Execution, Program, ProgramError, Work, plan_execution
from .echo import Echo
from .image import Image

__all__ = ["PROGRAMS", "Echo", "Execution", "Image", "Program", "ProgramError", "Work", "plan_execution"]

PROGRAMS: Mapping[str, Program] = {"echo": Echo(), "image": Image()}
