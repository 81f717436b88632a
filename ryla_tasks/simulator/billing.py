"""The bills of the simulated endpoints, as RunPod's management API gives them.

Source: RunPod's OpenAPI description of GET /v2/billing/serverless (2026-08). Each worker is billed from its start to
its stop, rounded up, at `price_per_s`: runs, idle time and, with `bill_initializing`, starts. Disks and fees are none.
The hours are those of the real clock, also where simulated time passes faster: then an hour holds more than its
seconds.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from aiohttp import web

from .clock import Clock
from .hosting import HostedEndpoint
from .replies import authorized, reply

__all__ = ["BillingApi"]

_SIZES = ("hour", "day", "week", "month", "year")
_MONTH_DAYS = 30


class BillingApi:
    """Answers GET /v2/billing/serverless."""

    def __init__(self, clock: Clock, endpoints: Mapping[str, HostedEndpoint], keys: Collection[str]) -> None:
        self._clock = clock
        self._endpoints = endpoints
        self._keys = keys

    def handle(self, request: web.BaseRequest) -> web.Response:
        """One request."""
        if request.method != "GET":
            return _problem(405, "Method Not Allowed", "use GET")
        if not authorized(request, self._keys):
            return _problem(401, "Unauthorized", "the API key is missing or wrong")
        try:
            size, begins, ends = self._window(request.query)
        except ValueError as error:
            return _problem(400, "Bad Request", str(error))
        only = request.query.get("serverlessId")
        records = [
            _record(endpoint_id, bucket, _after(bucket, size), usd)
            for endpoint_id, endpoint in self._endpoints.items()
            if only in (None, endpoint_id)
            for bucket, usd in sorted(self._billed(endpoint, size).items())
            if begins <= bucket < ends
        ]
        query = {"startTime": _rfc3339(begins), "endTime": _rfc3339(ends), "bucketSize": size, "serverlessId": only}
        metadata = {
            "query": query,
            "recordCount": len(records),
            "uniqueServerlessCount": len({record["serverlessId"] for record in records}),
            "totals": _amounts(sum(record["totalAmount"] for record in records)),
        }
        return reply({"records": records, "metadata": metadata})

    def _window(self, query: Mapping[str, str]) -> tuple[str, datetime.datetime, datetime.datetime]:
        """The size of buckets, and the window widened to whole ones. Raises `ValueError`."""
        size = query.get("bucketSize", "day")
        if size not in _SIZES:
            raise ValueError(f"bucketSize must be one of {', '.join(_SIZES)}")
        now = datetime.datetime.fromtimestamp(self._clock.wall(self._clock.now()), datetime.UTC)
        if "lastN" in query:
            return self._latest(query, size, now)
        begins = _time(query, "startTime", now - datetime.timedelta(days=_MONTH_DAYS))
        ends = _time(query, "endTime", now)
        last = _floor(ends, size)
        return size, _floor(begins, size), last if last == ends else _after(last, size)

    def _latest(
        self, query: Mapping[str, str], size: str, now: datetime.datetime
    ) -> tuple[str, datetime.datetime, datetime.datetime]:
        if "startTime" in query or "endTime" in query:
            raise ValueError("lastN and startTime/endTime exclude each other")
        if not query["lastN"].isdigit() or int(query["lastN"]) < 1:
            raise ValueError("lastN must be a whole number from 1 on")
        begins = last = _floor(now, size)
        for _ in range(int(query["lastN"]) - 1):
            begins = _floor(begins - datetime.timedelta(seconds=1), size)
        return size, begins, _after(last, size)

    def _billed(self, endpoint: HostedEndpoint, size: str) -> dict[datetime.datetime, float]:
        """Dollars by bucket."""
        billed: defaultdict[datetime.datetime, float] = defaultdict(float)
        for begins, ends, seconds in endpoint.core.fleet.bills(endpoint.advance()):
            for bucket, share in self._shares(begins, ends, size):
                billed[bucket] += share * seconds * endpoint.config.price_per_s
        return billed

    def _shares(self, begins: float, ends: float, size: str) -> Iterator[tuple[datetime.datetime, float]]:
        """How a span of simulated time is spread over the buckets."""
        start, stop = (datetime.datetime.fromtimestamp(self._clock.wall(at), datetime.UTC) for at in (begins, ends))
        at, whole = start, (stop - start).total_seconds()
        while True:
            bucket = _floor(at, size)
            until = min(stop, _after(bucket, size))
            yield bucket, (until - at).total_seconds() / whole if whole > 0 else 1.0
            if until >= stop:
                return
            at = until


def _floor(time: datetime.datetime, size: str) -> datetime.datetime:
    hour = time.astimezone(datetime.UTC).replace(minute=0, second=0, microsecond=0)
    match size:
        case "hour":
            return hour
        case "week":
            day = hour.replace(hour=0)
            return day - datetime.timedelta(days=day.weekday())
        case "month":
            return hour.replace(hour=0, day=1)
        case "year":
            return hour.replace(hour=0, day=1, month=1)
    return hour.replace(hour=0)


def _after(bucket: datetime.datetime, size: str) -> datetime.datetime:
    """The bucket that follows on one."""
    longest = {"hour": 1 / 24, "day": 1, "week": 7, "month": 31, "year": 366}[size]
    return _floor(bucket + datetime.timedelta(days=longest), size)


def _time(query: Mapping[str, str], name: str, default: datetime.datetime) -> datetime.datetime:
    if name not in query:
        return default
    try:
        time = datetime.datetime.fromisoformat(query[name])
    except ValueError:
        raise ValueError(f"{name} must be a time as in RFC 3339") from None
    if time.tzinfo is None:
        raise ValueError(f"{name} must have a time zone")
    return time.astimezone(datetime.UTC)


def _record(endpoint_id: str, begins: datetime.datetime, ends: datetime.datetime, usd: float) -> dict[str, Any]:
    times = {"startTime": _rfc3339(begins), "endTime": _rfc3339(ends)}
    return {**times, "serverlessId": endpoint_id, **_amounts(usd)}


def _amounts(usd: float) -> dict[str, float]:
    return {"totalAmount": usd, "gpuAmount": usd, "cpuAmount": 0.0, "diskAmount": 0.0, "feeAmount": 0.0}


def _rfc3339(time: datetime.datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _problem(status: int, title: str, detail: str) -> web.Response:
    return reply({"title": title, "status": status, "detail": detail}, status)
