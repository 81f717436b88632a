"""Reading what a request brings, and no more of it than it may bring."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest

from ryla_tasks.contrib.web import Rules
from ryla_tasks.errors import InvalidJob, PayloadTooLarge

__all__ = ["check_length", "most_json", "most_upload", "read", "uploaded"]

#: The boundaries and headers around one file.
_AROUND_FILE = 16 * 1024


def most_json(rules: Rules) -> int:
    """How large a body of JSON may be: as the rules say, and Django's DATA_UPLOAD_MAX_MEMORY_SIZE."""
    most: int | None = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return rules.most_body if most is None else min(most, rules.most_body)


def most_upload(rules: Rules) -> int:
    """How large a form with one file may be."""
    return rules.most_upload + _AROUND_FILE


def check_length(request: HttpRequest, most: int) -> None:
    """Raise `PayloadTooLarge` for a body that says that it is too large, before anything is read of it."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > most:
        raise PayloadTooLarge(f"the body has more than {most} bytes", field="body")


def read(request: HttpRequest, most: int) -> bytes:
    """The body. It may come without a length, in chunks, so it is counted, too. Raises `PayloadTooLarge`."""
    check_length(request, most)
    body: bytes = request.read(most + 1)
    if len(body) > most:
        raise PayloadTooLarge(f"the body has more than {most} bytes", field="body")
    return body


def uploaded(request: HttpRequest, most: int) -> bytes:
    """The file of a form, as far as it may be. Raises `InvalidJob` where there is none."""
    file = request.FILES.get("file")
    if file is None:
        raise InvalidJob("file: is missing from the form", field="file")
    data: bytes = file.read(most + 1)
    return data
