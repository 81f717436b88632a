"""ComfyUI's HTTP and WebSocket API, as far as a worker needs it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from workers.comfyui.faults import prompt_refused
from workers.common.failures import JobFailure

__all__ = ["ComfyClient", "ComfyGone"]

#: Models are loaded and checked while ComfyUI answers POST /prompt only in some node packs; be patient with those.
_SUBMIT_TIMEOUT = aiohttp.ClientTimeout(total=120, connect=5)
_FILE_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5, sock_read=60)
_CHUNK = 1 << 20


class ComfyGone(Exception):
    """ComfyUI did not answer, or not as ComfyUI does."""


class ComfyClient:
    """A client of one ComfyUI. Use it as a context manager. `answer_s`: how long a short answer may take."""

    def __init__(self, url: str, *, answer_s: float = 15.0) -> None:
        self._url = url
        self._answer_s = answer_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> ComfyClient:
        self._session = aiohttp.ClientSession(
            self._url, timeout=aiohttp.ClientTimeout(total=self._answer_s, connect=5), trust_env=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @contextlib.asynccontextmanager
    async def _ask(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None, "used outside its context"
        try:
            async with self._session.request(method, path, **options) as response:
                yield response
        except (aiohttp.ClientError, TimeoutError, ConnectionError, json.JSONDecodeError) as error:
            raise ComfyGone(f"{method} {path.partition('?')[0]}: {type(error).__name__}") from error

    async def submit(
        self,
        workflow: dict[str, Any],
        prompt_id: str,
        client_id: str,
        *,
        outputs: Iterable[str] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Queue a workflow under this id, which must be a UUID in lower case. Returns `node_errors`, often empty.

        ComfyUI takes a workflow of which one output of several is valid, with HTTP 200; that is for the caller to
        judge. Raises a `JobFailure` where it takes nothing. Messages go to `client_id` alone.
        """
        body: dict[str, Any] = {"prompt": workflow, "prompt_id": prompt_id, "client_id": client_id}
        if outputs is not None:
            body["partial_execution_targets"] = list(outputs)
        if extra:
            body["extra_data"] = extra
        async with self._ask("POST", "/prompt", json=body, timeout=_SUBMIT_TIMEOUT) as response:
            text = await response.text()
        try:
            answer = json.loads(text)
        except json.JSONDecodeError:
            answer = None
        if response.status != 200 or not isinstance(answer, dict):
            raise prompt_refused(answer or {"error": f"HTTP {response.status}"}, workflow)
        errors = answer.get("node_errors")
        return errors if isinstance(errors, dict) else {}

    async def history(self, prompt_id: str) -> dict[str, Any] | None:
        """The entry of a prompt that has ended, however it has; None before."""
        async with self._ask("GET", f"/history/{prompt_id}") as response:
            found = (await response.json()).get(prompt_id)
        return found if isinstance(found, dict) else None

    async def is_queued(self, prompt_id: str) -> bool:
        """Whether a prompt runs or waits."""
        async with self._ask("GET", "/queue") as response:
            queue = await response.json()
        rows = [*queue.get("queue_running", ()), *queue.get("queue_pending", ())]
        return any(prompt_id in row[:2] for row in rows)

    async def cancel(self, prompt_id: str) -> None:
        """Take a prompt out of the queue, and interrupt it if it runs. What has ended stays as it is."""
        async with self._ask("POST", "/queue", json={"delete": [prompt_id]}):
            pass
        async with self._ask("POST", "/interrupt", json={"prompt_id": prompt_id}):
            pass

    async def forget(self, prompt_id: str) -> None:
        """Drop a prompt from the history, which ComfyUI keeps in memory."""
        async with self._ask("POST", "/history", json={"delete": [prompt_id]}):
            pass

    async def classes(self, names: Iterable[str]) -> dict[str, Any]:
        """What /object_info says of these classes of nodes. Those that ComfyUI does not have are absent."""
        found: dict[str, Any] = {}
        for answer in await asyncio.gather(*(self._class(name) for name in sorted(set(names)))):
            found.update(answer)
        return found

    async def _class(self, name: str) -> dict[str, Any]:
        async with self._ask("GET", f"/object_info/{quote(name, safe='')}") as response:
            answer: dict[str, Any] = await response.json() if response.status == 200 else {}
        return answer

    async def system_stats(self) -> dict[str, Any]:
        """Version, memory, devices."""
        async with self._ask("GET", "/system_stats") as response:
            stats: dict[str, Any] = await response.json()
        return stats

    async def upload(self, path: Path, name: str, folder: str) -> str:
        """Put a file into the input folder. Returns what a LoadImage node calls it."""
        form = aiohttp.FormData()
        with path.open("rb") as file:
            form.add_field("image", file, filename=name, content_type="application/octet-stream")
            for field, value in (("overwrite", "true"), ("type", "input"), ("subfolder", folder)):
                form.add_field(field, value)
            async with self._ask("POST", "/upload/image", data=form, timeout=_FILE_TIMEOUT) as response:
                if response.status != 200:
                    raise JobFailure(
                        "input_upload",
                        "An input image could not be handed to ComfyUI.",
                        {"reason": f"HTTP {response.status}", "image": name},
                    )
                said = await response.json()
        return f"{said['subfolder']}/{said['name']}" if said.get("subfolder") else str(said["name"])

    async def view(self, file: dict[str, Any], to: Path, *, most_bytes: int) -> int | None:
        """Fetch a file that a node listed. Returns its size, or None (and no file) where it is larger than this."""
        query = {name: str(file.get(name) or "") for name in ("filename", "subfolder", "type")}
        size = 0
        async with self._ask("GET", "/view", params=query, timeout=_FILE_TIMEOUT) as response:
            if response.status != 200:
                raise JobFailure(
                    "output_gone",
                    "A file that the workflow made could not be read.",
                    {"filename": query["filename"], "reason": f"HTTP {response.status}"},
                )
            with to.open("wb") as out:
                async for chunk in response.content.iter_chunked(_CHUNK):
                    size += len(chunk)
                    if size > most_bytes:
                        break
                    out.write(chunk)
        if size > most_bytes:
            to.unlink()
            return None
        return size

    @contextlib.asynccontextmanager
    async def messages(self, client_id: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """The WebSocket on which ComfyUI tells this client of its prompts. Raises `ComfyGone` if it does not open."""
        assert self._session is not None, "used outside its context"
        try:
            socket = await self._session.ws_connect(
                f"/ws?clientId={client_id}",
                max_msg_size=0,
                heartbeat=20,
                timeout=aiohttp.ClientWSTimeout(ws_close=2),
            )
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise ComfyGone(f"/ws: {type(error).__name__}") from error
        try:
            yield socket
        finally:
            await socket.close()
