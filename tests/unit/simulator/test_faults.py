from __future__ import annotations

from random import Random

import pytest
from pydantic import ValidationError

from ryla_tasks.simulator.faults import Answer, Delay, FaultPlan, LoseAnswer, parse_fault
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


def test_clear_takes_all_away() -> None:
    faults = plan()
    faults.add(LoseAnswer(times=None))
    faults.clear()
    assert struck(faults) == [False] * 6


@pytest.mark.parametrize("fault", [LoseAnswer(op=Operation.RUN), Answer(status=429, retry_after=7), Delay(seconds=1)])
def test_a_fault_survives_its_json(fault: LoseAnswer | Answer | Delay) -> None:
    assert parse_fault(fault.model_dump(mode="json")) == fault


@pytest.mark.parametrize("data", [{"kind": "nonsense"}, {"kind": "answer"}, {"kind": "delay", "seconds": 1, "op": "x"}])
def test_a_wrong_fault_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        parse_fault(data)
