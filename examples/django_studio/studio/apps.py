"""The app."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["StudioConfig"]


class StudioConfig(AppConfig):
    name = "studio"

    def ready(self) -> None:
        """Listen to the ends of jobs."""
        from studio import jobs  # noqa: F401 - its receivers are connected
