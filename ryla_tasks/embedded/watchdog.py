"""Ends a server when the process that started it is gone, however it went."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from pathlib import Path

__all__ = ["Watchdog"]

# Waits for the end of its standard input, whose other end only the owner holds; the kernel closes that when the owner
# dies, even by SIGKILL. Then: SIGTERM, up to ten seconds for the append-only file, SIGKILL, and the temporary folder.
_SCRIPT = """
read -r _
kill -TERM "$1" 2>/dev/null
tries=100
while kill -0 "$1" 2>/dev/null && [ "$tries" -gt 0 ]; do sleep 0.1; tries=$((tries - 1)); done
kill -KILL "$1" 2>/dev/null
[ -z "$2" ] || rm -rf -- "$2"
"""


class Watchdog:
    """A small process beside the server.

    Linux could send the server a signal by itself (PR_SET_PDEATHSIG), but does so at the end of the thread that
    started it, and setting it means running Python between fork and exec in a process that may have threads. A pipe
    has neither trouble, and works on macOS too. A process that the owner forks without exec, such as a prefork
    worker's child, inherits the pipe: the server then lives until those are gone as well.
    """

    def __init__(self, pid: int, remove: Path | None = None) -> None:
        """Watch for the end of this process on behalf of `pid`; then remove the folder `remove` too."""
        self._lock = threading.Lock()
        reader, self._writer = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603
                ["/bin/sh", "-c", _SCRIPT, "ryla-redis-watchdog", str(pid), str(remove or "")],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Ctrl-C in a terminal goes to the whole group of processes; this one outlives it.
                start_new_session=True,
            )
        except BaseException:
            os.close(self._writer)
            raise
        finally:
            os.close(reader)

    def dismiss(self) -> None:
        """End the watch; may be repeated. Called as soon as the server has ended, because its pid may then become
        another process's."""
        with self._lock:
            if self._writer >= 0:
                self._process.kill()
                self._process.wait()
                os.close(self._writer)
                self._writer = -1

    def __del__(self) -> None:
        # An owner that lost its server object without stopping it: the pipe's end is what ends the server.
        with contextlib.suppress(AttributeError, OSError):
            if self._writer >= 0:
                os.close(self._writer)
