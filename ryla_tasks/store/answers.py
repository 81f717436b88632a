"""What the job store is asked for and what it answers: plain values, and how they are read from Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis.exceptions import RedisError

from ryla_tasks.jobs.budget import Ceiling
from ryla_tasks.jobs.record import JobRecord, JobSpec
from ryla_tasks.store.budgets import Terms
from ryla_tasks.store.codec import decode_record, unpack_input

__all__ = [
    "NO_NEWS",
    "Accepted",
    "BudgetNews",
    "Candidate",
    "Claim",
    "Created",
    "Creation",
    "Delivery",
    "NewJob",
    "OverBudget",
    "Rate",
    "Recovered",
    "Refusal",
    "Refused",
    "Ride",
    "Settled",
    "Spend",
    "Sweep",
    "claim_of",
    "deliveries_of",
    "is_kept",
    "news_of_claim",
    "news_of_settle",
    "wake_of",
]


class Creation(StrEnum):
    """What became of a wish to create a job."""

    CREATED = "created"
    EXISTS = "exists"
    SAME = "same"
    ALIAS = "alias"
    ENDED = "ended"
    CONFLICT = "conflict"
    TOMBSTONE = "tombstone"
    OVER = "over"


class Refusal(StrEnum):
    """Why a claim was not given."""

    GONE = "gone"
    NONE = "none"
    MOVED = "moved"
    HELD = "held"
    EARLY = "early"
    WAIT = "wait"
    TROUBLE = "trouble"
    CHECK = "check"
    DOWN = "down"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to create. `input_json` is the endpoint's input as JSON, `envelope` the Celery message that runs it.

    `message` is that message as a Redis list and what is pushed to it, where it goes out with the record.
    `other_inputs` are those that the spec's `fallbacks` name by their place here, each as JSON.
    """

    job_id: str
    spec: JobSpec
    input_json: str
    envelope: str
    delay_s: float = 0.0
    start_by_s: float | None = None
    digest: str = ""
    in_canvas: bool = False
    recorded: bool = True
    message: tuple[str, str] | None = None
    other_inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    """A deliver message that has to be sent, with the envelope to send it by."""

    job_id: str
    envelope: str


@dataclass(frozen=True, slots=True)
class Created:
    """`job_id` is the job that stands for the wish: under an idempotency key, the one made before."""

    word: Creation
    job_id: str
    deliveries: tuple[Delivery, ...] = ()


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit of calls: `per_s` in the long run, `burst` at once, for the whole fleet; of submits, also how many may be
    `under_way` together."""

    per_s: float
    burst: int
    under_way: int = 1_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target that a submit may go to, how many may, and what jobs cost there, where that is known."""

    target: str
    rate: Rate
    terms: Terms | None = None


@dataclass(frozen=True, slots=True)
class Spend:
    """What has been spent at an endpoint on a day, and reserved for what is in flight, in micro-dollars."""

    endpoint: str
    day: int
    amount: int


@dataclass(frozen=True, slots=True)
class OverBudget:
    """A job that met a ceiling: it has ended without a submit (of a claim), or is to be stopped (of a settle, with what
    has been spent under that ceiling, in micro-dollars)."""

    job_id: str
    ceiling: Ceiling
    spent: int = 0


@dataclass(frozen=True, slots=True)
class BudgetNews:
    """What an operation has found out about budgets, and the deliveries to send of jobs that it ended for them."""

    over: tuple[OverBudget, ...] = ()
    spends: tuple[Spend, ...] = ()
    deliveries: tuple[Delivery, ...] = ()


NO_NEWS = BudgetNews()


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that is ours until the lease ends. `payload` is the input, or the kept remote output.

    `lost` says that an earlier claim of the same attempt died on its way; `durable`, that the intent is kept as the
    settings want. `taken` is the local monotonic time just
    before the claim was asked for: the lease's age counts from there. `wake_s` is the delay of a wake message to send
    for the jobs that are still in line at the endpoint, if any; `others` says whether there are such.
    """

    record: JobRecord
    fence: str
    now: float
    taken: float
    payload: Any = None
    lost: bool = False
    durable: bool = True
    wake_s: float | None = None
    news: BudgetNews = NO_NEWS
    others: bool = False

    def age(self) -> float:
        """Seconds since the lease began, at the most."""
        return time.monotonic() - self.taken

    def clock(self) -> float:
        """The time by Redis's clock, carried on by ours."""
        return self.now + self.age()


@dataclass(frozen=True, slots=True)
class Refused:
    """No claim; where `why` is EARLY, WAIT (for a limit), TROUBLE (an open breaker) or DOWN (a retry, and its target is
    down), `in_s` says when there may be one. CHECK asks for the `target`'s health, and for another claim then. `wake_s`
    is the delay of a wake message to send for the endpoint, if any."""

    why: Refusal
    in_s: float = 0.0
    job_id: str = ""
    wake_s: float | None = None
    target: str = ""
    news: BudgetNews = NO_NEWS


@dataclass(frozen=True, slots=True)
class Ride:
    """Jobs of one target, claimed together. `wake_s` is the delay of a poll message to send now, if any."""

    target: str
    fence: str
    now: float
    taken: float
    in_flight: int
    wake_s: float | None
    records: tuple[JobRecord, ...]

    def clock(self) -> float:
        """The time by Redis's clock, carried on by ours."""
        return self.now + time.monotonic() - self.taken


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settle did: per job whether it counted, the poll message and the deliveries to send."""

    counted: tuple[bool, ...]
    wake_s: float | None
    envelopes: tuple[Delivery, ...]
    breaker_open: bool = False
    news: BudgetNews = NO_NEWS


@dataclass(frozen=True, slots=True)
class Accepted:
    """How an accepted remote job was recorded. An orphan is cancelled by the sweeper."""

    orphan: bool
    cancelling: bool
    wake_s: float | None
    breaker_open: bool = False


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep found overdue: messages as (step, id, envelope), targets to poll, endpoints with jobs in line."""

    messages: tuple[tuple[str, str, str], ...]
    wakes: tuple[str, ...]
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recovered:
    """A burst of recovery: messages that were tried again, overdue polls that were taken up then, those of them that
    were more than 15 s late, and how long it went on."""

    tried: int
    recovered: int
    late: int
    seconds: float


def is_kept(durable: tuple[Any, ...], answer: Any) -> bool:
    """Whether enough confirmed: WAITAOF answers [own disk, replicas' disks], WAIT a number of replicas.

    An error answer (there is no append-only file) confirms nothing.
    """
    if isinstance(answer, RedisError):
        return False
    _command, *wanted, _timeout = durable
    got = answer if isinstance(answer, list) else [answer]
    return all(have >= want for have, want in zip(got, wanted, strict=True))


def wake_of(ms: Any) -> float | None:
    """A delay as the operations answer it, in seconds; -1 is none."""
    return None if int(ms) < 0 else int(ms) / 1000


def deliveries_of(pairs: Iterable[bytes]) -> tuple[Delivery, ...]:
    """Deliveries as the operations answer them: id, envelope, id, envelope."""
    texts = [part.decode() for part in pairs]
    return tuple(Delivery(*pair) for pair in zip(texts[0::2], texts[1::2], strict=True))


def claim_of(answer: Sequence[Any], taken: float, *, packed: bool) -> Claim | Refused:
    """A claim, or why there is none, as `claim_submit` (packed) and `claim_deliver` answer."""
    word, ms, *rest = answer
    if not rest:
        return Refused(Refusal(word.decode()), ms / 1000)
    if word not in (b"claimed", b"lost"):
        job_id, wake_ms, target = rest
        return Refused(Refusal(word.decode()), ms / 1000, job_id.decode(), wake_of(wake_ms), target.decode())
    job_id, fence, now, fields, *payload = rest
    body = payload[0] if payload else None
    if body is not None:
        body = (unpack_input(body) if body else None) if packed else json.loads(body)
    record = decode_record(job_id.decode(), fields)
    wake_s, others = (wake_of(payload[1]), bool(payload[2])) if packed else (None, False)
    lost = word == b"lost"
    return Claim(record, fence.decode(), int(now) / 1e6, taken, body, lost=lost, wake_s=wake_s, others=others)


def news_of_claim(endpoint: str, answer: Sequence[Any]) -> tuple[Sequence[Any], BudgetNews]:
    """The answer of `claim_submit`, and what it says of budgets."""
    if answer[0] != b"money":
        return answer, NO_NEWS
    _word, deliveries, refused, day, spent, inner = answer
    pairs = zip(refused[0::2], refused[1::2], strict=True)
    over = tuple(OverBudget(job_id.decode(), Ceiling(code.decode())) for job_id, code in pairs)
    spends = (Spend(endpoint, int(day), int(spent)),) if int(spent) >= 0 else ()
    return inner, BudgetNews(over, spends, deliveries_of(deliveries))


def news_of_settle(told: Sequence[bytes]) -> BudgetNews:
    """What `settle` says of budgets: six texts for each job."""
    if not told:
        return NO_NEWS
    texts = [part.decode() for part in told]
    rows = list(zip(*(texts[place::6] for place in range(6)), strict=True))
    over = tuple(
        OverBudget(job_id, Ceiling(code), int(by_user if code == Ceiling.USER else by_endpoint))
        for job_id, code, _endpoint, _day, by_endpoint, by_user in rows
        if code
    )
    # The last row of an endpoint is the newest.
    spends = {(endpoint, int(day)): int(amount) for _id, _code, endpoint, day, amount, _user in rows}
    return BudgetNews(over, tuple(Spend(*place, amount) for place, amount in spends.items()))
