"""One prompt run by the stand-in: the messages of ComfyUI 0.3.64 in the order in which they were recorded."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.comfyui.pictures import picture_of, save_output

__all__ = ["Executor", "Queued"]

Send = Callable[[str, dict[str, Any], str | None], Awaitable[None]]


@dataclass(slots=True)
class Queued:
    """A prompt in line."""

    number: int
    prompt_id: str
    prompt: dict[str, Any]
    extra: dict[str, Any]
    outputs: list[str]

    @property
    def row(self) -> list[Any]:
        """As /queue and /history show it."""
        return [self.number, self.prompt_id, self.prompt, self.extra, self.outputs]

    @property
    def sid(self) -> str | None:
        client_id = self.extra.get("client_id")
        return client_id if isinstance(client_id, str) else None


class _Failed(Exception):
    pass


class _Interrupted(Exception):
    pass


@dataclass(slots=True)
class _Run:
    job: Queued
    messages: list[list[Any]] = field(default_factory=list)
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)


class Executor:
    """Runs prompts one after the other. A node with the same inputs as in the prompt before is not run again."""

    def __init__(self, object_info: dict[str, Any], base: Path, send: Send, *, step_s: float, faces: bool) -> None:
        self._info = object_info
        self._base = base
        self._send = send
        self._step_s = step_s
        self._faces = faces
        self._cache: dict[str, tuple[Any, Any]] = {}
        self.interrupted = False
        self.node: str | None = None

    async def run(self, job: Queued) -> dict[str, Any]:
        """Run a prompt to its end, whatever that is, and give its entry in /history."""
        self.interrupted = False
        run = _Run(job)
        order = self._order(job)
        keys = {node_id: self._key(job.prompt, node_id) for node_id in order}
        self._cache = {key: self._cache[key] for key in keys.values() if key in self._cache}
        cached = [node_id for node_id in order if keys[node_id] in self._cache]
        await self._tell(run, "execution_start", {}, stamped=True, kept=True)
        await self._tell(run, "execution_cached", {"nodes": cached}, stamped=True, kept=True)
        try:
            for node_id in order:
                if node_id in cached:
                    await self._again(run, node_id, keys[node_id])
                else:
                    await self._node(run, node_id, keys)
            await self._tell(run, "execution_success", {}, stamped=True, kept=True)
            ended = "success"
        except _Interrupted:
            about = {"node_id": self.node, "node_type": job.prompt[str(self.node)]["class_type"], "executed": []}
            await self._tell(run, "execution_interrupted", about, stamped=True, kept=True)
            ended = "error"
        except Exception as error:
            await self._tell(run, "execution_error", self._error(job, error), stamped=True, kept=True)
            ended = "error"
        self.node = None
        outputs = run.outputs if ended == "success" else {}
        meta = {
            node_id: {"node_id": node_id, "display_node": node_id, "parent_node": None, "real_node_id": node_id}
            for node_id in outputs
        }
        status = {"status_str": ended, "completed": ended == "success", "messages": run.messages}
        return {"prompt": job.row, "outputs": outputs, "status": status, "meta": meta}

    async def _node(self, run: _Run, node_id: str, keys: dict[str, str]) -> None:
        node = run.job.prompt[node_id]
        self.node = node_id
        await self._state(run, node_id, "running", 0.0, 1.0)
        await self._tell(run, "executing", {"node": node_id, "display_node": node_id})
        last = await self._steps(run, node_id, node)
        self._check()
        sources = {
            name: self._cache[keys[str(value[0])]][0]
            for name, value in node["inputs"].items()
            if isinstance(value, list) and str(value[0]) in keys
        }
        if self._info[node["class_type"]].get("output_node"):
            shown = save_output(node_id, node, sources, self._base)
            self._cache[keys[node_id]] = (None, shown)
            await self._executed(run, node_id, shown)
        else:
            picture = picture_of(node, sources, self._base / "input", faces=self._faces)
            self._cache[keys[node_id]] = (picture, None)
        await self._state(run, node_id, "finished", *last)

    async def _again(self, run: _Run, node_id: str, key: str) -> None:
        """A node that is cached says nothing, unless it is an output: that shows its old files again."""
        shown = self._cache[key][1]
        if shown is not None:
            await self._executed(run, node_id, shown)
            await self._state(run, node_id, "finished", 1, 1)

    async def _executed(self, run: _Run, node_id: str, shown: dict[str, Any]) -> None:
        run.outputs[node_id] = shown
        await self._tell(run, "executed", {"node": node_id, "display_node": node_id, "output": shown})

    async def _steps(self, run: _Run, node_id: str, node: dict[str, Any]) -> tuple[float, float]:
        inputs = node["inputs"]
        steps = inputs.get("steps")
        if not isinstance(steps, int):
            await asyncio.sleep(0)
            return 1.0, 1.0
        for step in range(steps):
            await asyncio.sleep(float(inputs.get("delay", self._step_s)))
            if step == inputs.get("fail_at", -1):
                raise _Failed("CUDA out of memory (simulated)\n")
            self._check()
            await self._state(run, node_id, "running", step + 1, steps)
            await self._tell(run, "progress", {"value": step + 1, "max": steps, "node": node_id})
        return steps, steps

    def _check(self) -> None:
        if self.interrupted:
            raise _Interrupted

    async def _state(self, run: _Run, node_id: str, state: str, value: float, most: float) -> None:
        run.states[node_id] = {
            "value": value,
            "max": most,
            "state": state,
            "node_id": node_id,
            "prompt_id": run.job.prompt_id,
            "display_node_id": node_id,
            "parent_node_id": None,
            "real_node_id": node_id,
        }
        await self._tell(run, "progress_state", {"nodes": dict(run.states)})

    async def _tell(
        self, run: _Run, kind: str, data: dict[str, Any], *, stamped: bool = False, kept: bool = False
    ) -> None:
        data = {**data, "prompt_id": run.job.prompt_id}
        if stamped:
            data["timestamp"] = int(time.time() * 1000)
        if kept:
            run.messages.append([kind, data])
        await self._send(kind, data, run.job.sid)

    def _error(self, job: Queued, error: Exception) -> dict[str, Any]:
        node = job.prompt[str(self.node)]
        return {
            "node_id": self.node,
            "node_type": node["class_type"],
            "executed": [],
            "exception_message": str(error),
            "exception_type": "RuntimeError" if isinstance(error, _Failed) else type(error).__name__,
            "traceback": ['  File "execution.py", line 496, in execute\n'],
            "current_inputs": {name: [value] for name, value in node["inputs"].items() if not isinstance(value, list)},
            "current_outputs": [],
        }

    def _order(self, job: Queued) -> list[str]:
        """The nodes that the outputs need, each after those it depends on."""
        order: list[str] = []

        def visit(node_id: str) -> None:
            if node_id in order:
                return
            for value in job.prompt[node_id]["inputs"].values():
                if isinstance(value, list) and str(value[0]) in job.prompt:
                    visit(str(value[0]))
            order.append(node_id)

        for output in job.outputs:
            visit(output)
        return order

    def _key(self, prompt: dict[str, Any], node_id: str) -> str:
        node = prompt[node_id]
        inputs = {
            name: [self._key(prompt, str(value[0])), value[1]] if isinstance(value, list) else value
            for name, value in sorted(node["inputs"].items())
        }
        return json.dumps([node["class_type"], inputs], default=str)
