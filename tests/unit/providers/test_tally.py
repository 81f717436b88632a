"""Calls are counted by endpoint, operation and what came of them."""

from __future__ import annotations

import pytest

from ryla_tasks.errors import NotConnected, ServerError
from ryla_tasks.providers.runpod import CallRetry, RunPod
from ryla_tasks.simulator import Answer, EndpointConfig, LoseAnswer, RunningSimulator, SimulatorConfig


def test_every_call_counts_with_its_code_and_repeats_apart() -> None:
    config = SimulatorConfig(endpoints=(EndpointConfig(endpoint_id="ep", program="echo"),))
    with RunningSimulator(config) as simulator:
        retry = CallRetry(first_wait=0, max_wait=0)
        client = RunPod(simulator.key, simulator.base_url, call_retry=retry)
        endpoint = simulator.endpoint("ep")
        endpoint.add_fault(Answer(op="health", status=500, times=2))
        client.health("ep")
        endpoint.add_fault(LoseAnswer(op="health"))
        client.health("ep")
        client.run("ep", {"x": 1})
        endpoint.add_fault(Answer(op="run", status=503))
        with pytest.raises(ServerError):
            client.run("ep", {"x": 1})
        counted = {
            ("ep", "health", "500"): 2, ("ep", "health", "200"): 2, ("ep", "health", "none"): 1,
            ("ep", "health", "repeated"): 3, ("ep", "run", "200"): 1, ("ep", "run", "503"): 1,
        }  # fmt: skip
        assert client.tally.take() == counted
    assert client.tally.take() == {}
    client.tally.put_back(counted)
    with pytest.raises(NotConnected):
        client.run("ep", {"x": 1})
    assert client.tally.take() == {**counted, ("ep", "run", "none"): 1}
