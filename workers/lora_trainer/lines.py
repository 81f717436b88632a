"""Lines of a program's output, as they come. Progress bars end theirs with a carriage return. Pure."""

from __future__ import annotations

import codecs
import re
from collections import deque

__all__ = ["LineSplitter", "Tail", "without_secrets"]

_LONGEST = 8_192
_END = re.compile(r"\r\n|\r|\n")
_ANSI = re.compile(r"\x1b\[[0-9;?]{0,20}[A-Za-z]")
# A presigned URL is a secret, and so is a token of Hugging Face.
_URL_QUERY = re.compile(r"(https?://[^\s\"'<>?]{1,500})\?[^\s\"'<>]*")
_TOKEN = re.compile(r"\b(?:hf_|rpa_|sk-|ghp_)[A-Za-z0-9_-]{8,}")


class LineSplitter:
    """Bytes in, whole lines out, however they were cut. What cannot be decoded is replaced; long lines are cut."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes, *, last: bool = False) -> list[str]:
        """The lines that these bytes complete, without colours and empty lines; `last` gives what is left, too."""
        text = self._rest + self._decoder.decode(data, final=last)
        *lines, self._rest = _END.split(text)
        if last:
            lines.append(self._rest)
            self._rest = ""
        elif len(self._rest) > _LONGEST:
            # Kept short by its end: a bar is at the end of what was written over it.
            self._rest = self._rest[-_LONGEST:]
        cleaned = (_ANSI.sub("", line[-_LONGEST:]).rstrip() for line in lines)
        return [line for line in cleaned if line]


class Tail:
    """The last lines of a log, for the one who has to find out what went wrong. A bar takes one line of it."""

    def __init__(self, most: int = 200) -> None:
        self._lines: deque[str] = deque(maxlen=most)
        self._bar = ""

    def add(self, line: str, *, bar: str = "") -> None:
        """Add a line. A `bar` of the same name as the line before takes its place."""
        if bar and bar == self._bar and self._lines:
            self._lines[-1] = line
        else:
            self._lines.append(line)
        self._bar = bar

    def lines(self, most: int | None = None) -> list[str]:
        """The newest lines, oldest first."""
        return list(self._lines)[-most:] if most else list(self._lines)


def without_secrets(line: str) -> str:
    """The line without what is after the `?` of a URL, and without tokens."""
    return _TOKEN.sub("[secret]", _URL_QUERY.sub(r"\1?...", line))
