"""Why a training did not work out: one class for each code that goes back to the caller.

    JobFailure
    ├── RequestInvalid        request_invalid         the caller's input, by field
    │   └── DatasetInvalid    dataset_invalid         its images and captions
    ├── TrainingMemory        training_memory         more GPU memory than there is; says what to change
    ├── TrainingFailed        training_failed         AI Toolkit ended with an error of its own
    ├── TrainingTimeOut       training_time_out       over the time limit, or silent for too long
    └── TrainerMisconfigured  trainer_misconfigured   this worker cannot work for anybody

Each has a row in the table of verdicts (docs/errors.md).
"""

from __future__ import annotations

from typing import Any, ClassVar

from workers.common.failures import JobFailure

__all__ = [
    "DatasetInvalid",
    "RequestInvalid",
    "TrainerMisconfigured",
    "TrainingFailed",
    "TrainingMemory",
    "TrainingTimeOut",
]


class RequestInvalid(JobFailure):
    """The request for a training cannot be carried out: `field` is what is wrong with it, `reason` why."""

    code_of_class: ClassVar[str] = "request_invalid"
    says: ClassVar[str] = "The training request is not valid"

    def __init__(self, field: str, reason: str, **more: Any) -> None:
        super().__init__(
            self.code_of_class, f"{self.says}: {field}: {reason}.", {"field": field, "reason": reason, **more}
        )
        self.field = field
        self.reason = reason


class DatasetInvalid(RequestInvalid):
    """The images or captions cannot be trained on."""

    code_of_class = "dataset_invalid"
    says = "The images cannot be trained on"


class TrainingMemory(JobFailure):
    """The training needs more GPU memory than there is. `details.change` lists what would need less."""

    def __init__(self, sentence: str, details: dict[str, Any]) -> None:
        super().__init__("training_memory", sentence, details)


class TrainingFailed(JobFailure):
    """AI Toolkit ended with an error; `details` has its class and words, and the end of the log."""

    def __init__(self, sentence: str, details: dict[str, Any], *, refresh: bool = False) -> None:
        super().__init__("training_failed", sentence, details, refresh=refresh)


class TrainingTimeOut(JobFailure):
    """The training took too long, or said nothing for too long, and was stopped."""

    def __init__(self, sentence: str, details: dict[str, Any]) -> None:
        super().__init__("training_time_out", sentence, details)


class TrainerMisconfigured(JobFailure):
    """This worker cannot do any training as it is set up."""

    def __init__(self, sentence: str, details: dict[str, Any] | None = None) -> None:
        super().__init__("trainer_misconfigured", sentence, details)
