"""Lists of jobs, newest first, by user, kind, state and endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis
from redis.exceptions import RedisError

from ryla_tasks.errors import StoreUnavailable
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.states import State
from ryla_tasks.store.codec import RECORD_FIELDS, decode_record

__all__ = ["count_states", "list_records"]

_PAGE = 200


def list_records(
    client: redis.Redis,
    prefix: str,
    *,
    user_id: str | None = None,
    kind: str | None = None,
    state: State | None = None,
    endpoint: str | None = None,
    cells: bool = True,
    since: float | None = None,
    until: float | None = None,
    after: tuple[float, str] | None = None,
) -> Iterator[JobRecord]:
    """Records that fit all that is given, newest first, read a page at a time as they are asked for. Without `cells`
    the cells of sheets are left out. `since` and `until` bound when they were created, in seconds since the epoch. With
    `after`, the time of creation and the id of a job, those that come after it, whether it is still there or not.

    Raises `StoreUnavailable`.
    """
    wanted = {"user": user_id, "state": state, "kind": kind, "endpoint": endpoint}
    given = [f"{prefix}:idx:{name}:{value}" for name, value in wanted.items() if value is not None]
    try:
        index = min(given, key=client.zcard) if given else f"{prefix}:idx:all"
        for ids in _pages(client, index, since, until, after):
            for record in _load(client, prefix, ids):
                if (cells or not record.spec.sheet) and _fits(record, user_id, kind, state, endpoint):
                    yield record
    except RedisError as error:
        raise StoreUnavailable(f"Redis did not answer: {error}") from error


def count_states(client: redis.Redis, prefix: str) -> dict[State, int]:
    """How many jobs there are in each state, cells of sheets among them. Raises `StoreUnavailable`."""
    try:
        with client.pipeline(transaction=False) as pipe:
            for state in State:
                pipe.zcard(f"{prefix}:idx:state:{state}")
            return dict(zip(State, pipe.execute(), strict=True))
    except RedisError as error:
        raise StoreUnavailable(f"Redis did not answer: {error}") from error


def _pages(
    client: redis.Redis, index: str, since: float | None, until: float | None, after: tuple[float, str] | None
) -> Iterator[list[bytes]]:
    """An index from its newest job on. By time, not by rank: jobs come and go between two pages."""
    oldest: float | str = "+inf" if until is None else until * 1e6
    least: float | str = "-inf" if since is None else since * 1e6
    seen: set[bytes] = set()
    if after is not None:
        # Of jobs of one moment Redis gives those with the greater id first.
        oldest, last = round(after[0] * 1_000_000), after[1].encode()
        same: Any = client.zrange(index, oldest, oldest, byscore=True)
        seen = {job_id for job_id in same if job_id >= last}
    while True:
        page: Any = client.zrange(
            index,
            oldest,
            least,
            desc=True,
            byscore=True,
            offset=0,
            num=_PAGE,
            withscores=True,
        )
        fresh = [job_id for job_id, _created in page if job_id not in seen]
        if not fresh:
            return
        yield fresh
        oldest = page[-1][1]
        seen = {job_id for job_id, created in page if created == oldest}


def _load(client: redis.Redis, prefix: str, ids: list[bytes]) -> Iterator[JobRecord]:
    with client.pipeline(transaction=False) as pipe:
        for job_id in ids:
            pipe.hmget(f"{prefix}:job:{job_id.decode()}", RECORD_FIELDS)
        for job_id, fields in zip(ids, pipe.execute(), strict=True):
            if fields[1] is not None:
                yield decode_record(job_id.decode(), fields)


def _fits(record: JobRecord, user_id: str | None, kind: str | None, state: State | None, endpoint: str | None) -> bool:
    spec = record.spec
    pairs = ((user_id, spec.user_id), (kind, spec.kind), (state, record.state), (endpoint, spec.endpoint))
    return all(wanted is None or wanted == has for wanted, has in pairs)
