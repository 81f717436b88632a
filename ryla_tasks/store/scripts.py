"""The operations in `commands/`, ready to be called."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Any

import redis
from redis.exceptions import BusyLoadingError, NoScriptError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ryla_tasks.errors import StoreError, StoreUnavailable
from ryla_tasks.store.buckets import buckets_in_lua

__all__ = ["Scripts", "operations"]

_HEADER = re.compile(r"^-- operation: (?P<name>\w+)(?P<flags>[\w -]*)$", re.MULTILINE)
#: Put before each operation, in this order.
_PRELUDES = ("common.lua", "usage.lua", "money.lua", "metrics.lua", "cells.lua")


@cache
def operations() -> dict[str, tuple[str, str]]:
    """Each operation's name, with its SHA1 and the text that Redis runs."""
    folder = files(__package__).joinpath("commands")
    prelude = buckets_in_lua() + "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in _PRELUDES)
    found = {}
    for file in folder.iterdir():
        if file.name in _PRELUDES:
            continue
        _about, *parts = _HEADER.split(file.read_text(encoding="utf-8"))
        for name, flags, body in zip(parts[0::3], parts[1::3], parts[2::3], strict=True):
            script = f"#!lua flags={','.join(flags.split())}\n" if flags.split() else "#!lua\n"
            script += prelude + body
            found[name] = (hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest(), script)
    return found


class Scripts:
    """Calls operations by name, each in one round trip, sent once.

    Raises `StoreUnavailable` where Redis does not answer; its `sent` says whether the operation may have run. Nothing
    is repeated here, unlike in redis-py: whether it may be is for the caller to say.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._pool = client.connection_pool
        self._prefix = prefix

    def call(self, name: str, *args: str | bytes) -> Any:
        """Run an operation and return its answer."""
        return self._run(name, args, ())[0]

    def call_durably(self, name: str, wait: tuple[Any, ...], *args: str | bytes) -> tuple[Any, Any]:
        """Run an operation, then `wait` (WAIT, WAITAOF) on the same connection, in one round trip; both answers.

        The operation has been carried out when `wait` goes wrong: its error is returned, not raised.
        """
        answer, waited = self._run(name, args, (wait,))
        return answer, waited

    def _run(self, name: str, args: tuple[str | bytes, ...], more: tuple[tuple[Any, ...], ...]) -> list[Any]:
        sha, script = operations()[name]
        try:
            try:
                return self._send([("EVALSHA", sha, 1, self._prefix, *args), *more])
            except NoScriptError:
                return self._send([("EVAL", script, 1, self._prefix, *args), *more])
        except (RedisConnectionError, RedisTimeoutError) as error:
            raise StoreUnavailable(f"Redis cannot be reached: {_said(error)}") from error
        except RedisError as error:
            raise StoreError(f"Redis refused {name}: {error}") from error

    def _send(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        connection: Any = self._pool.get_connection()
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            answers = [_answer(connection) for _ in commands]
        except BusyLoadingError as error:
            connection.disconnect()
            raise StoreUnavailable(f"Redis is starting: {error}") from error
        except (RedisConnectionError, RedisTimeoutError) as error:
            connection.disconnect()
            raise StoreUnavailable(f"Redis did not answer: {_said(error)}", sent=True) from error
        finally:
            self._pool.release(connection)
        if isinstance(answers[0], RedisError):
            raise answers[0]
        return answers


def _said(error: Exception) -> str:
    """The words of an error, without the description of the clients of all Sentinels that redis-py puts behind them."""
    return str(error).partition(" : <")[0]


def _answer(connection: Any) -> Any:
    """One answer, an error answer included, so that the next one can be read."""
    try:
        return connection.read_response()
    except (RedisConnectionError, RedisTimeoutError):
        raise
    except RedisError as error:
        return error
