"""RunPod serverless endpoints, over HTTP.

Sources: docs.runpod.io (endpoint operations, send requests, job states) and the behaviour of RunPod's own
clients. RunPod has no idempotency key and no list of jobs, so a submit whose answer is lost cannot be looked up;
hence the care taken here to tell "not taken" from "not known".
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import SecretStr

from ryla_tasks.errors import (
    ConfigurationError,
    InvalidJob,
    NotConnected,
    ProviderError,
    RateLimited,
    RemoteJobNotFound,
    TransientError,
    WaitTimeout,
)
from ryla_tasks.providers.base import EndpointHealth, Policy, Provider, RemoteJob, Submitted
from ryla_tasks.providers.excerpt import texts_of
from ryla_tasks.providers.http import Answer, HttpClient, Timeouts
from ryla_tasks.providers.repeat import CallRetry, repeat
from ryla_tasks.providers.runpod_wire import (
    Chunks,
    encode_run,
    error_of,
    parse_chunks,
    parse_health,
    parse_job,
    parse_purged,
    parse_submitted,
)
from ryla_tasks.providers.tally import REPEATED, UNANSWERED, Tally

__all__ = ["CallRetry", "RunPod", "Timeouts"]

T = TypeVar("T")

_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]+").fullmatch
_VISIBLE = re.compile(r"[!-~]+").fullmatch


class RunPod(Provider):
    """One RunPod account. A `Provider`; safe for use by many threads, and across a fork.

    `account` is the caller's name for it. The key never shows in a repr, an error or a log line. Every error
    carries the endpoint id, the remote id and the HTTP status where there are any.

    status, cancel, health and purge are repeated on a `TransientError` as `call_retry` says; run and retry
    never are, nor are redirects followed. `verify` and `proxies` are those of `requests`; with `trust_env` the
    environment (`HTTPS_PROXY`, `REQUESTS_CA_BUNDLE`) is heard as well. `max_payload_bytes` is RunPod's limit for
    /run, 10 MB.

    Raises `ConfigurationError` for a setting that cannot work.
    """

    name = "runpod"

    def __init__(
        self,
        api_key: SecretStr | str,
        base_url: str = "https://api.runpod.ai/v2",
        *,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        call_retry: CallRetry = CallRetry(),  # noqa: B008 - frozen
        pool_size: int = 64,
        account: str = "default",
        max_payload_bytes: int = 10 * 1024 * 1024,
        proxies: Mapping[str, str] | None = None,
        verify: bool | str = True,
        trust_env: bool = False,
    ) -> None:
        self._key = api_key if isinstance(api_key, SecretStr) else SecretStr(api_key)
        key = self._key.get_secret_value()
        if not _VISIBLE(key):
            raise ConfigurationError(
                "the RunPod API key is empty, or has a space or line end", setting="RUNPOD_API_KEY"
            )
        self.base_url = base_url.rstrip("/")
        self.account = account
        self.tally = Tally()
        self._call_retry = call_retry
        self._max_payload_bytes = max_payload_bytes
        self._http = HttpClient(
            self.base_url,
            {
                "Authorization": f"Bearer {key}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",  # so that Content-Length is the size that max_bytes is about
                "User-Agent": "ryla-tasks",
            },
            timeouts=timeouts,
            pool_size=pool_size,
            proxies=proxies,
            verify=verify,
            trust_env=trust_env,
        )

    def __repr__(self) -> str:
        return f"RunPod(account={self.account!r}, base_url={self.base_url!r})"

    def run(
        self,
        endpoint_id: str,
        job_input: Mapping[str, Any],
        *,
        policy: Policy | None = None,
        webhook: str | None = None,
    ) -> Submitted:
        """POST /run, once, on a connection of its own. `was_not_accepted(error)` tells the two failures apart.

        Raises `InvalidJob` or `PayloadTooLarge` before anything is sent.
        """
        body = encode_run(job_input, policy, webhook, self._max_payload_bytes)

        def secrets() -> Iterator[str]:
            yield from texts_of([webhook, job_input])

        return self._ask("POST", "run", endpoint_id, None, parse_submitted, body=body, fresh=True, secrets=secrets)

    def status(
        self, endpoint_id: str, remote_id: str, *, max_bytes: int | None = None, patient: bool = True
    ) -> RemoteJob:
        """GET /status. `patient=False` asks once, without retries and without waiting.

        An answer of more than `max_bytes` is not read: the job comes back `truncated`, with status OTHER.
        Raises `RemoteJobNotFound` for a job that is unknown, expired or deleted; RunPod says 404 to all three.
        """
        parse = partial(parse_job, remote_id=remote_id)
        if not patient:
            return self._ask("GET", "status", endpoint_id, remote_id, parse, max_bytes=max_bytes)
        return self._ask_again("GET", "status", endpoint_id, remote_id, parse, max_bytes=max_bytes)

    def cancel(self, endpoint_id: str, remote_id: str) -> RemoteJob:
        """POST /cancel. Safe to repeat; the answer may be an end that came first."""
        parse = partial(parse_job, remote_id=remote_id)
        return self._ask_again("POST", "cancel", endpoint_id, remote_id, parse)

    def retry(self, endpoint_id: str, remote_id: str) -> RemoteJob:
        """POST /retry, once: RunPod runs a FAILED or TIMED_OUT job again under its id, and drops the old output."""
        parse = partial(parse_job, remote_id=remote_id)
        return self._ask("POST", "retry", endpoint_id, remote_id, parse, fresh=True)

    def health(self, endpoint_id: str, *, within_s: float | None = None) -> EndpointHealth:
        """GET /health; with `within_s` once, in so many seconds. Raises `EndpointNotFound` for an endpoint that does
        not exist."""
        if within_s is not None:
            deadline = time.monotonic() + within_s
            return self._ask("GET", "health", endpoint_id, None, parse_health, deadline=deadline)
        return self._ask_again("GET", "health", endpoint_id, None, parse_health)

    def purge(self, endpoint_id: str) -> int:
        """POST /purge-queue: removes the queued jobs, whoever queued them, and returns how many.

        Safe to repeat; after a repeat the number leaves out what an earlier attempt removed.
        """
        return self._ask_again("POST", "purge-queue", endpoint_id, None, parse_purged)

    def stream(self, endpoint_id: str, remote_id: str, *, max_s: float = 7200, pause_s: float = 1) -> Iterator[Any]:
        """GET /stream until the job has ended, in whatever way, and nothing is left to read; yields the outputs.

        RunPod gives each partial output to one read only, so a read whose answer was lost is not repeated:
        `AnswerLost` and `ServerError` come through, and calling again goes on with what is left. RunPod holds a
        read for up to 10 s when there is nothing (keep the read time-out above that); should it not, `pause_s`
        seconds pass between empty reads.

        Raises `WaitTimeout` after `max_s` seconds; the job goes on.
        """
        _path("stream", endpoint_id, remote_id)  # a wrong id is told here, not at the first chunk
        return self._chunks(endpoint_id, remote_id, time.monotonic() + max_s, pause_s)

    def close(self) -> None:
        """Close the idle connections; later calls raise `NotConnected`, those in progress end."""
        self._http.close()

    def _chunks(self, endpoint_id: str, remote_id: str, end: float, pause_s: float) -> Iterator[Any]:
        ended = False
        while True:
            asked = time.monotonic()
            if asked >= end:
                raise WaitTimeout("the time to follow the stream is over; the job goes on")
            try:
                chunks = self._read_chunks(endpoint_id, remote_id)
            except RemoteJobNotFound:
                if ended:
                    return
                raise
            yield from chunks.outputs
            ended = chunks.status.ended
            if ended and not chunks.outputs:
                return
            if not chunks.outputs and time.monotonic() - asked < pause_s:
                time.sleep(max(0.0, min(pause_s, end - time.monotonic())))

    def _read_chunks(self, endpoint_id: str, remote_id: str) -> Chunks:
        on = (NotConnected, RateLimited)
        return self._ask_again("GET", "stream", endpoint_id, remote_id, parse_chunks, on=on)

    def _ask_again(
        self,
        method: str,
        operation: str,
        endpoint_id: str,
        remote_id: str | None,
        parse: Callable[[Answer], T],
        *,
        max_bytes: int | None = None,
        on: tuple[type[ProviderError], ...] = (TransientError,),
    ) -> T:
        tries = itertools.count()

        def ask(deadline: float) -> T:
            if next(tries):
                self.tally.note(endpoint_id, operation, REPEATED)
            return self._ask(method, operation, endpoint_id, remote_id, parse, max_bytes=max_bytes, deadline=deadline)

        return repeat(self._call_retry, ask, on=on)

    def _ask(
        self,
        method: str,
        operation: str,
        endpoint_id: str,
        remote_id: str | None,
        parse: Callable[[Answer], T],
        *,
        body: bytes | None = None,
        fresh: bool = False,
        max_bytes: int | None = None,
        deadline: float | None = None,
        secrets: Callable[[], Iterable[str]] = tuple,
    ) -> T:
        path = _path(operation, endpoint_id, remote_id)
        how: int | str = UNANSWERED
        try:
            answer = self._http.call(method, path, body=body, fresh=fresh, max_bytes=max_bytes, deadline=deadline)
            how = answer.status
            if 200 <= answer.status < 300:
                return parse(answer)
            hidden = [self._key.get_secret_value(), *secrets()]
            raise error_of(answer, about_job=remote_id is not None, secrets=hidden)
        except ProviderError as error:
            error.endpoint_id = endpoint_id
            error.remote_id = remote_id or ""
            raise
        finally:
            self.tally.note(endpoint_id, operation, how)


def _path(operation: str, endpoint_id: str, remote_id: str | None) -> str:
    path = f"/{_segment(endpoint_id, 'endpoint_id')}/{operation}"
    return path if remote_id is None else f"{path}/{_segment(remote_id, 'remote_id')}"


def _segment(value: str, field: str) -> str:
    if _PLAIN_ID(value):
        return value
    if value.strip(".") == "":
        raise InvalidJob(f"{field} {value!r} is no id", field=field)
    return quote(value, safe="")
