"""How a job ended, as JSON: `{"result": {...}}`, or `{"error": {"type", "message", "info"}}`.

The same bytes are read by every delivery, by `Job.result()` and, through Celery, by `AsyncResult.get()`.
"""

from __future__ import annotations

from typing import Any

from ryla_tasks import errors
from ryla_tasks.errors import Category, JobError

__all__ = ["described", "error_ending", "raised", "result_ending"]


def _tree(root: type[JobError]) -> dict[str, type[JobError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


_TYPES = _tree(errors.JobError)


def result_ending(result: dict[str, Any]) -> dict[str, Any]:
    """The end of a job that has a result."""
    return {"result": result}


def error_ending(
    kind: type[JobError],
    message: str = "",
    *,
    code: str = "",
    category: Category = Category.PERMANENT,
    details: Any = None,
) -> dict[str, Any]:
    """The end of a job without a result: which error, the sentence for the user, the details for a developer."""
    return described(kind(message, {"code": code or kind.code, "category": str(category), "details": details}))


def described(error: JobError) -> dict[str, Any]:
    """An error as JSON; `raised` makes it an error again."""
    return {"error": {"type": type(error).__name__, "message": str(error), "info": error.info}}


def raised(job_id: str, ending: dict[str, Any]) -> JobError:
    """The error that a described end stands for, knowing its job."""
    error = ending["error"]
    return _TYPES.get(error["type"], JobError)(error["message"], {**error["info"], "job_id": job_id})
