"""What a job is: its spec and record, its states, and what observations make of it. Pure, no I/O."""

from __future__ import annotations
