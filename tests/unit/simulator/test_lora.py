"""The simulated trainer: steps and loss, and a file that is a LoRA's."""

from __future__ import annotations

from typing import Any

import pytest

from ryla_tasks.artifacts import decode_output
from ryla_tasks.simulator.config import EndpointConfig
from ryla_tasks.simulator.programs import Lora, ProgramError, plan_execution

CONFIG = EndpointConfig(endpoint_id="ep", program="lora", run_s=8)
IMAGES = [{"url": f"https://example.org/{number}.png"} for number in range(3)]


def plan(**job_input: Any) -> Any:
    return plan_execution(Lora(), {"trigger_word": "x", "images": IMAGES, **job_input}, CONFIG, earlier_runs=0)


def test_progress_has_steps_and_a_loss_that_falls() -> None:
    execution = plan(steps=200)
    told = [execution.progress(fraction / 10) for fraction in range(11)]
    assert [one["step"] for one in told] == list(range(0, 201, 20))
    losses = [one["loss"] for one in told]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1] > 0
    assert told[5]["message"] == "Training: step 100 of 200"


def test_the_file_is_whole_and_named_after_the_attempt() -> None:
    output = plan(steps=20, base_model="sdxl", ryla={"correlation_id": "abc"}).render()
    decoded = decode_output(output)
    (file,) = decoded.files
    assert (file.filename, file.content_type) == ("abc.safetensors", "application/x-safetensors")
    assert output["lora"]["bytes"] == len(file.data or b"")
    assert (decoded.data["base_model"], decoded.data["steps"]) == ("sdxl", 20)


@pytest.mark.parametrize("wrong", [{"images": IMAGES[:2]}, {"trigger_word": ""}, {"images": None}])
def test_what_the_trainer_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ProgramError):
        Lora().prepare({"trigger_word": "x", "images": IMAGES, **wrong}, None, CONFIG)  # type: ignore[arg-type]
