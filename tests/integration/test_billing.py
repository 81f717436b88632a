"""RunPod's bills: the client, and the simulator that answers it in the same shape."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from pydantic import SecretStr

from ryla_tasks.errors import MalformedAnswer, RequestRejected, Unauthorized
from ryla_tasks.providers.billing import RunPodBilling, _records
from ryla_tasks.providers.http import Answer, Timeouts
from ryla_tasks.simulator import EndpointConfig, RunningSimulator, SimulatorConfig

HOUR = datetime.timedelta(hours=1)


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    always_on = {"workers_min": 2, "workers_max": 2, "cold_start_s": 0.0, "price_per_s": 0.5}
    endpoints = (
        EndpointConfig(endpoint_id="busy", program="echo", **always_on),
        EndpointConfig(endpoint_id="idle", program="echo"),
    )
    with RunningSimulator(SimulatorConfig(endpoints=endpoints, time_scale=7_200.0)) as running:
        yield running


def asked(simulator: RunningSimulator, key: str = "", **query: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {key or simulator.key}"}
    return requests.get(f"{simulator.base_url}/billing/serverless", params=query, headers=headers, timeout=10)


def client(simulator: RunningSimulator, key: str = "") -> RunPodBilling:
    return RunPodBilling(SecretStr(key or simulator.key), simulator.base_url, timeouts=Timeouts())


def test_workers_that_are_always_on_are_billed_by_the_hour(simulator: RunningSimulator) -> None:
    now = datetime.datetime.now(datetime.UTC).replace(minute=0, second=0, microsecond=0)
    bills = client(simulator).serverless(now - HOUR, now + 2 * HOUR)
    assert {bill.endpoint_id for bill in bills} == {"busy"}, "nothing was used at the other"
    before = simulator.endpoint("busy").counters().cost
    assert 0 < sum(bill.amounts.total for bill in bills) <= before
    assert {bill.begins for bill in bills} <= {now - HOUR, now, now + HOUR}


@pytest.mark.parametrize("size", ["hour", "day", "week", "month", "year"])
def test_the_shape_is_that_of_the_description(simulator: RunningSimulator, size: str) -> None:
    document = asked(simulator, lastN=1, bucketSize=size, serverlessId="busy").json()
    (record,) = document["records"]
    assert set(record) == {
        "startTime", "endTime", "serverlessId", "totalAmount", "gpuAmount", "cpuAmount", "diskAmount", "feeAmount",
    }  # fmt: skip
    assert document["metadata"]["query"] == {
        "startTime": record["startTime"], "endTime": record["endTime"], "bucketSize": size, "serverlessId": "busy",
    }  # fmt: skip
    assert (document["metadata"]["recordCount"], document["metadata"]["uniqueServerlessCount"]) == (1, 1)
    assert document["metadata"]["totals"]["totalAmount"] == record["totalAmount"] > 0
    days = datetime.datetime.fromisoformat(record["endTime"]) - datetime.datetime.fromisoformat(record["startTime"])
    assert days / datetime.timedelta(days=1) in {"hour": [1 / 24], "day": [1], "week": [7]}.get(size, range(28, 367))


@pytest.mark.parametrize(
    "query",
    [{"bucketSize": "minute"}, {"lastN": 0}, {"lastN": 2, "endTime": "2026-06-01T00:00:00Z"}, {"startTime": "soon"},
     {"startTime": "2026-06-01T00:00:00"}],
)  # fmt: skip
def test_a_wrong_question_is_refused(simulator: RunningSimulator, query: dict[str, Any]) -> None:
    answer = asked(simulator, **query)
    assert (answer.status_code, set(answer.json())) == (400, {"title", "status", "detail"})


def test_a_wrong_key_is_told_without_the_key(simulator: RunningSimulator) -> None:
    now = datetime.datetime.now(datetime.UTC)
    with pytest.raises(Unauthorized) as caught:
        client(simulator, "rpa_secret_of_mine").serverless(now, now)
    assert "rpa_secret_of_mine" not in repr(caught.value) + str(caught.value)


def test_no_bills_where_there_is_no_such_api(simulator: RunningSimulator) -> None:
    away = RunPodBilling(SecretStr("k"), f"{simulator.url}/simulator", timeouts=Timeouts())
    now = datetime.datetime.now(datetime.UTC)
    with pytest.raises(RequestRejected, match="check runpod_management_url"):
        away.serverless(now, now)


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"records": [{}]}', b'{"records": [1]}', b"<html>"])
def test_an_answer_that_is_no_bill_is_one_error(body: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        _records(Answer(200, {}, body))


def test_cpu_disks_and_fees_are_kept_apart() -> None:
    body = (
        b'{"records": [{"startTime": "2026-06-01T00:00:00Z", "endTime": "2026-06-02T00:00:00Z", "serverlessId": "x",'
        b' "totalAmount": 8.9, "gpuAmount": 7.5, "cpuAmount": 0, "diskAmount": 0.4, "feeAmount": 1.0}]}'
    )
    (bill,) = _records(Answer(200, {}, body))
    assert (bill.amounts.compute, bill.amounts.disk, bill.amounts.fee) == (7.5, 0.4, 1.0)
    assert bill.amounts.total == pytest.approx(8.9)
