"""The programs that simulated GPU workers run."""

from __future__ import annotations

from collections.abc import Mapping

from .base import Execution, Program, ProgramError, Work, plan_execution
from .echo import Echo
from .image import Image
from .lora import Lora

__all__ = ["PROGRAMS", "Echo", "Execution", "Image", "Lora", "Program", "ProgramError", "Work", "plan_execution"]

PROGRAMS: Mapping[str, Program] = {"echo": Echo(), "image": Image(), "lora": Lora()}
