"""What of a server's answer may go into an error: a short excerpt, with nothing of our request in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["excerpt", "texts_of"]

_LENGTH = 500
_HEAD = 32
_SHORTEST = 8
_HIDDEN = "[hidden]"


def excerpt(body: bytes, secrets: Iterable[str]) -> str:
    """The first 500 characters of `body`, with every secret replaced.

    A server that rejects a request likes to quote it. A quote that breaks off is known by its first 32
    characters, and takes the rest of the text with it.
    """
    text = _plain(body)
    if not text:
        return ""
    for secret in secrets:
        for form in {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}:
            if not form:
                continue
            text = text.replace(form, _HIDDEN)
            start = text.find(form[:_HEAD])
            if start >= 0:
                text = text[:start] + _HIDDEN
    return text[:_LENGTH]


def _plain(body: bytes) -> str:
    # JSON has many ways to write one text (`\u0026`, `\/`); written anew, it has the one that is looked for.
    text = body.decode("utf-8", "replace")
    try:
        text = json.dumps(json.loads(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
    return text.encode("utf-8", "replace").decode()


def texts_of(value: Any) -> Iterator[str]:
    """Every text in a JSON value that is long enough to tell something: prompts, URLs, names of files."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            if len(item) >= _SHORTEST:
                yield item
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
