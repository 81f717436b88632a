"""Moments on the command line: `90s`, `30m`, `1h`, `7d` ago, or a date and time in ISO 8601."""

from __future__ import annotations

import datetime
import re
import time

import click

__all__ = ["MOMENT"]

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class Moment(click.ParamType[float]):
    """Seconds since the epoch. A date and time without a zone is one of this machine's."""

    name = "moment"

    def convert(self, value: float | str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if not isinstance(value, str):
            return value
        if match := _AGO.fullmatch(value.strip().lower()):
            return time.time() - float(match[1]) * _UNITS[match[2]]
        try:
            return datetime.datetime.fromisoformat(value.strip()).astimezone().timestamp()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither a time ago (90s, 30m, 1h, 7d) nor one like 2026-01-31T12:00", param, ctx)


MOMENT = Moment()
