"""The app of a worker whose Celery result backend goes wrong when a job's end is written.

`RYLA_TEST_RESULTS` says how: `kill:FILE` ends the process with SIGKILL, once (FILE remembers); `refuse:FILE` has
Redis refuse the write as long as FILE exists, as one that is out of memory does.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from celery.backends.redis import RedisBackend
from redis.exceptions import OutOfMemoryError

import ryla_tasks
from ryla_tasks.tasks import deliver

app = ryla_tasks.app

#: The test cannot wait for as long as a killed worker's delivery is its own.
deliver.LEASE_S = 2.0

_how, _, _file = os.environ["RYLA_TEST_RESULTS"].partition(":")
_store = RedisBackend._store_result


def _faulty(self: RedisBackend, *args: Any, **kwargs: Any) -> Any:
    file = Path(_file)
    if _how == "kill" and not file.exists():
        file.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if _how == "refuse" and file.exists():
        raise OutOfMemoryError("OOM command not allowed when used memory > 'maxmemory'.")
    return _store(self, *args, **kwargs)


RedisBackend._store_result = _faulty
