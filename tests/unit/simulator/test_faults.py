from __future__ import annotations

from random import Random

import pytest
from pydantic import ValidationError

from ryla_tasks.simulator.fault_plan import FaultPlan
from ryla_tasks.simulator.faults import (
    Answer,
    AnyFault,
    CallWebhook,
    Delay,
    LoseAnswer,
    Outdated,
    parse_fault,
)
from ryla_tasks.simulator.operations import Operation


def plan(seed: int = 0) -> FaultPlan:
    return FaultPlan(Random(seed))


def struck(faults: FaultPlan, op: Operation = Operation.RUN, calls: int = 6, job: str | None = None) -> list[bool]:
    return [faults.strike(op, job) is not None for _ in range(calls)]


def test_skip_and_times_choose_the_calls() -> None:
    faults = plan()
    faults.add(LoseAnswer(op=Operation.RUN, skip=2, times=2))
    assert struck(faults) == [False, False, True, True, False, False]
    assert faults.view()[0].struck == 2


def test_other_operations_and_other_jobs_pass_and_do_not_count() -> None:
    faults = plan()
    faults.add(Answer(op=Operation.STATUS, remote_id="a", status=404))
    assert struck(faults, Operation.RUN) == [False] * 6
    assert struck(faults, Operation.STATUS, job="b") == [False] * 6
    assert struck(faults, Operation.STATUS, job="a", calls=2) == [True, False]


def test_delays_add_up_until_a_false_answer() -> None:
    faults = plan()
    for fault in (Delay(seconds=2), Delay(seconds=3), Answer(status=503), Delay(seconds=9)):
        faults.add(fault)
    strike = faults.strike(Operation.HEALTH, None)
    assert strike is not None
    assert (strike.reply, strike.delay_s) == (Answer(status=503), 5.0)


def test_chance_is_seeded() -> None:
    def draws(seed: int) -> list[bool]:
        faults = plan(seed)
        faults.add(LoseAnswer(probability=0.5, times=None))
        return struck(faults, calls=64)

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)
    assert 10 < sum(draws(1)) < 54


def test_a_burst_strikes_so_many_calls_in_a_row() -> None:
    faults = plan(3)
    faults.add(Answer(status=429, times=None, probability=0.05, burst=4))
    rows = "".join("x" if hit else "." for hit in struck(faults, calls=400)).split(".")
    assert {len(row) for row in rows if row} <= {4, 8, 12}
    assert faults.view()[0].struck == sum(map(len, rows)) > 0


def test_times_ends_a_burst() -> None:
    faults = plan()
    faults.add(LoseAnswer(times=5, burst=4))
    assert struck(faults, calls=8) == [True] * 5 + [False] * 3


def test_an_outdated_answer_is_for_status_calls_about_jobs_that_have_ended() -> None:
    faults = plan()
    faults.add(Outdated(times=1))
    assert faults.strike(Operation.STATUS, "a") is None
    assert faults.strike(Operation.CANCEL, "a", ended=True) is None
    strike = faults.strike(Operation.STATUS, "a", ended=True)
    assert strike is not None
    assert isinstance(strike.reply, Outdated)
    assert strike.carried_out
    assert faults.strike(Operation.STATUS, "a", ended=True) is None


def test_what_happens_to_webhooks_happens_to_no_call_and_the_other_way_round() -> None:
    faults = plan()
    faults.add(LoseAnswer(times=None))
    faults.add(CallWebhook(times_each=0, remote_id="a"))
    faults.add(CallWebhook(times_each=3, times=2))
    assert struck(faults, calls=2) == [True, True]
    found = [faults.webhook(job) for job in ("a", "b", "c", "d")]
    assert [fault and fault.times_each for fault in found] == [0, 3, 3, None]


@pytest.mark.parametrize(
    ("fault", "carried_out"),
    [
        (LoseAnswer(), True), (LoseAnswer(after=False), False), (Answer(status=500), False),
        (Answer(status=500, after=True), True), (Delay(seconds=1), True),
    ],
)  # fmt: skip
def test_a_strike_says_whether_the_operation_happens(fault: AnyFault, carried_out: bool) -> None:
    faults = plan()
    faults.add(fault)
    strike = faults.strike(Operation.RUN, None)
    assert strike is not None
    assert strike.carried_out is carried_out


def test_clear_takes_all_away() -> None:
    faults = plan()
    faults.add(LoseAnswer(times=None))
    faults.clear()
    assert struck(faults) == [False] * 6


@pytest.mark.parametrize(
    "fault",
    [
        LoseAnswer(op=Operation.RUN),
        Answer(status=429, retry_after=7, burst=3),
        Delay(seconds=1),
        Outdated(fraction=0.2),
        CallWebhook(times_each=0),
    ],
)
def test_a_fault_survives_its_json(fault: AnyFault) -> None:
    assert parse_fault(fault.model_dump(mode="json")) == fault


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "nonsense"},
        {"kind": "answer"},
        {"kind": "delay", "seconds": 1, "op": "x"},
        {"kind": "outdated", "op": "run"},
    ],
)
def test_a_wrong_fault_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        parse_fault(data)
