"""The stand-in's HTTP and WebSocket face, and its queue."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from tests.support.comfyui.execution import Executor, Queued
from tests.support.comfyui.validation import FILES_BESIDES, check

__all__ = ["Options", "StandIn"]

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(slots=True)
class Options:
    """How it behaves. `files` are the model files that it has; None: any."""

    base: Path
    object_info: dict[str, Any]
    files: Collection[str] | None = None
    step_s: float = 0.02
    faces: bool = True


@dataclass(slots=True)
class _Seen:
    prompts: list[dict[str, Any]] = field(default_factory=list)
    interrupts: list[Any] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    sockets: int = 0


class StandIn:
    """One ComfyUI. `app` is its web application; it works for as long as that runs."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._executor = Executor(
            options.object_info, options.base, self._send, step_s=options.step_s, faces=options.faces
        )
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._pending: list[Queued] = []
        self._running: Queued | None = None
        self._history: dict[str, Any] = {}
        self._number = 0
        self._more = asyncio.Event()
        self._no_sockets_until = 0.0
        self._seen = _Seen()
        for name in ("input", "output", "temp"):
            (options.base / name).mkdir(parents=True, exist_ok=True)
        self.app = self._routes()

    def _routes(self) -> web.Application:
        app = web.Application(client_max_size=100 << 20)
        app.cleanup_ctx.append(self._works)
        app.add_routes(
            [
                web.get("/ws", self._ws),
                web.post("/prompt", self._prompt),
                web.get("/queue", self._get_queue),
                web.post("/queue", self._post_queue),
                web.get("/history", self._get_history),
                web.get("/history/{id}", self._get_history),
                web.post("/history", self._post_history),
                web.post("/interrupt", self._interrupt),
                web.post("/free", self._free),
                web.get("/view", self._view),
                web.post("/upload/image", self._upload),
                web.get("/object_info", self._object_info),
                web.get("/object_info/{name}", self._object_info),
                web.get("/system_stats", self._system_stats),
                web.get("/_standin", self._look),
                web.post("/_standin", self._control),
            ]
        )
        return app

    async def _works(self, _app: web.Application) -> Any:
        task = asyncio.create_task(self._work())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _work(self) -> None:
        while True:
            while not self._pending:
                self._more.clear()
                await self._more.wait()
            job = self._running = self._pending.pop(0)
            await self._status()
            entry = await self._executor.run(job)
            self._history[job.prompt_id] = entry
            self._running = None
            await self._status()
            await self._send("executing", {"node": None, "prompt_id": job.prompt_id}, job.sid)

    # -- messages

    async def _send(self, kind: str, data: dict[str, Any], sid: str | None) -> None:
        """To one client, or to all where none is named."""
        sockets = list(self._sockets.values()) if sid is None else [self._sockets.get(sid)]
        for socket in sockets:
            if socket is not None and not socket.closed:
                with contextlib.suppress(ConnectionError):
                    await socket.send_json({"type": kind, "data": data})

    @property
    def _remaining(self) -> int:
        return len(self._pending) + (self._running is not None)

    async def _status(self) -> None:
        await self._send("status", {"status": {"exec_info": {"queue_remaining": self._remaining}}}, None)

    async def _ws(self, request: web.Request) -> web.StreamResponse:
        if time.monotonic() < self._no_sockets_until:
            return web.Response(status=503)
        sid = request.query.get("clientId") or uuid.uuid4().hex
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets[sid] = socket
        self._seen.sockets += 1
        status = {"exec_info": {"queue_remaining": self._remaining}}
        await socket.send_json({"type": "status", "data": {"status": status, "sid": sid}})
        if self._running is not None and self._running.sid == sid and self._executor.node is not None:
            await socket.send_json({"type": "executing", "data": {"node": self._executor.node}})
        try:
            async for message in socket:
                if message.type is WSMsgType.ERROR:
                    break
        finally:
            if self._sockets.get(sid) is socket:
                del self._sockets[sid]
        return socket

    # -- prompts

    async def _prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        if "prompt" not in body:
            error = {"type": "no_prompt", "message": "No prompt provided", "details": "", "extra_info": {}}
            return web.json_response({"error": error, "node_errors": {}}, status=400)
        prompt, prompt_id = body["prompt"], body.get("prompt_id") or str(uuid.uuid4())
        if not _UUID.fullmatch(prompt_id):
            error = {"type": "invalid_prompt_id", "message": "prompt_id is not a UUID", "details": "", "extra_info": {}}
            return web.json_response({"error": error, "node_errors": {}}, status=400)
        targets = body.get("partial_execution_targets")
        number, self._number = self._number, self._number + 1
        checked = check(
            self._wanted(prompt, targets), self._options.object_info, files=self._options.files, inputs=self._inputs()
        )
        if checked.error is not None:
            return web.json_response({"error": checked.error, "node_errors": checked.node_errors}, status=400)
        extra = {"client_id": body["client_id"]} if "client_id" in body else {}
        self._pending.append(Queued(number, prompt_id, prompt, extra, checked.outputs))
        self._seen.prompts.append(prompt)
        await self._status()
        self._more.set()
        return web.json_response({"prompt_id": prompt_id, "number": number, "node_errors": checked.node_errors})

    def _wanted(self, prompt: dict[str, Any], targets: list[str] | None) -> dict[str, Any]:
        """The prompt without output nodes that are not targets."""
        if targets is None:
            return prompt
        info = self._options.object_info
        return {
            node_id: node
            for node_id, node in prompt.items()
            if node_id in targets or not info.get(node.get("class_type"), {}).get("output_node")
        }

    def _inputs(self) -> set[str]:
        folder = self._options.base / "input"
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    async def _get_queue(self, _request: web.Request) -> web.Response:
        running = [self._running.row] if self._running is not None else []
        return web.json_response({"queue_running": running, "queue_pending": [job.row for job in self._pending]})

    async def _post_queue(self, request: web.Request) -> web.Response:
        body = await request.json()
        gone = set(body.get("delete", [])) if not body.get("clear") else {job.prompt_id for job in self._pending}
        self._seen.deleted.extend(job.prompt_id for job in self._pending if job.prompt_id in gone)
        self._pending = [job for job in self._pending if job.prompt_id not in gone]
        return web.Response()

    async def _get_history(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info.get("id")
        if prompt_id is None:
            return web.json_response(self._history)
        return web.json_response({prompt_id: self._history[prompt_id]} if prompt_id in self._history else {})

    async def _post_history(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("clear"):
            self._history.clear()
        for prompt_id in body.get("delete", []):
            self._history.pop(prompt_id, None)
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        text = await request.text()
        prompt_id = (json.loads(text) if text else {}).get("prompt_id")
        self._seen.interrupts.append(prompt_id)
        if self._running is not None and prompt_id in (None, self._running.prompt_id):
            self._executor.interrupted = True
        return web.Response()

    async def _free(self, request: web.Request) -> web.Response:
        await request.text()
        return web.Response()

    # -- files

    def _path(self, kind: str, subfolder: str, name: str) -> Path | None:
        if kind not in ("input", "output", "temp") or not name:
            return None
        base = (self._options.base / kind).resolve()
        path = (base / subfolder / name).resolve()
        return path if path.is_relative_to(base) else None

    async def _view(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        path = self._path(query.get("type", "output"), query.get("subfolder", ""), query.get("filename", ""))
        if path is None or not path.is_file():
            return web.Response(status=404)
        return web.FileResponse(path, headers={"Content-Disposition": f'filename="{path.name}"'})

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        image = form["image"]
        if not isinstance(image, web.FileField):
            return web.Response(status=400)
        kind, subfolder = str(form.get("type", "input")), str(form.get("subfolder", ""))
        path = self._path(kind, subfolder, image.filename)
        if path is None:
            return web.Response(status=400)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image.file.read())
        return web.json_response({"name": path.name, "subfolder": subfolder, "type": kind})

    async def _object_info(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name")
        info = self._options.object_info
        if name is not None:
            info = {name: info[name]} if name in info else {}
        return web.json_response({one: self._installed(one, about) for one, about in info.items()})

    def _installed(self, class_type: str, about: dict[str, Any]) -> dict[str, Any]:
        """A class with the model files that are there in its choices of files."""
        if self._options.files is None:
            return about
        inputs = {
            section: {
                name: [sorted({*config[0], *self._options.files}), *config[1:]]
                if config[0] == [] or (class_type, name) in FILES_BESIDES
                else config
                for name, config in fields.items()
            }
            if section != "hidden"
            else fields
            for section, fields in about["input"].items()
        }
        return {**about, "input": inputs}

    async def _system_stats(self, _request: web.Request) -> web.Response:
        path = Path(__file__).parents[2] / "data/comfyui/system_stats.json"
        return web.json_response(json.loads(path.read_text()))

    # -- for tests

    async def _look(self, _request: web.Request) -> web.Response:
        seen = self._seen
        return web.json_response(
            {
                "prompts": seen.prompts,
                "interrupts": seen.interrupts,
                "deleted": seen.deleted,
                "sockets": seen.sockets,
                "running": self._running.prompt_id if self._running else None,
                "node": self._executor.node,
            }
        )

    async def _control(self, request: web.Request) -> web.Response:
        body = await request.json()
        if "drop_sockets_s" in body:
            self._no_sockets_until = time.monotonic() + float(body["drop_sockets_s"])
            for socket in list(self._sockets.values()):
                with contextlib.suppress(ConnectionError):
                    await socket.close()
        if "files" in body:
            self._options.files = body["files"]
        return web.Response()
