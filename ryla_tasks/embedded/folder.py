"""The data folder of a server: whose it is, and that only one server uses it."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

from ryla_tasks.errors import ConfigurationError

__all__ = ["DataFolder"]


class DataFolder:
    """A folder for one server at a time. A named one is made if it is not there, and kept; an unnamed one is temporary.

    Raises `ConfigurationError` when the folder cannot be made.
    """

    def __init__(self, named: str | Path | None = None) -> None:
        self.temporary = named is None
        try:
            if named is None:
                self.path = Path(tempfile.mkdtemp(prefix="ryla-redis-"))
            else:
                self.path = Path(named).expanduser().resolve()
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"the data folder of Redis cannot be used: {error}") from None

    def lock(self, patience_s: float) -> int:
        """The descriptor of a lock on the folder, to be handed to the server process.

        It is held until every process that has the descriptor is gone: so as long as the server runs, even where the
        process that started it was killed. Raises `ConfigurationError` when another server has the folder for
        `patience_s` seconds more.
        """
        descriptor = os.open(self.path / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give_up = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    os.close(descriptor)
                    raise ConfigurationError(
                        f"another Redis server uses the data folder {self.path}: stop it, or name another folder"
                    ) from None
                time.sleep(0.05)
            else:
                return descriptor

    def remove_if_temporary(self) -> None:
        if self.temporary:
            shutil.rmtree(self.path, ignore_errors=True)
