"""How an error goes back from a GPU worker: a sentence, a stable code, and JSON for a developer."""

from __future__ import annotations

from typing import Any

__all__ = ["JobFailure", "answer_of"]


class JobFailure(Exception):
    """A job cannot be done. `sentence` is for the person who waits, `code` for programs, `details` for a developer.

    `refresh` asks RunPod to replace this worker after the answer. Every code has a row in the verdict table of
    `ryla_tasks` (docs/errors.md).
    """

    def __init__(
        self, code: str, sentence: str, details: dict[str, Any] | None = None, *, refresh: bool = False
    ) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.details = details or {}
        self.refresh = refresh

    def answer(self) -> dict[str, Any]:
        """What the handler returns: RunPod makes the job FAILED with it, and keeps the rest as its output."""
        answer: dict[str, Any] = {"error": self.sentence, "code": self.code, "details": self.details}
        if self.refresh:
            answer["refresh_worker"] = True
        return answer


def answer_of(error: BaseException) -> dict[str, Any]:
    """The answer for any error. One that nobody foresaw tells its class and words, and never a traceback."""
    if isinstance(error, JobFailure):
        return error.answer()
    details = {"error_type": type(error).__name__, "error_message": str(error)[:2_000]}
    return JobFailure("worker_error", "The GPU worker reported an error.", details).answer()
