"""How far a prompt is, from ComfyUI's messages. Pure: no clock, no I/O.

The percentage is over all nodes of the prompt: a node counts by its steps where it has some, else once; what is cached
or finished counts whole, what runs by its part. It never goes back. Nodes that are not in the prompt (ComfyUI expands
some into others) are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from workers.comfyui.faults import title_of

__all__ = ["Tracker"]

_MOST_WEIGHT = 1_000.0
_LARGEST = 1e12


class Tracker:
    """Follows one prompt. `feed` it each message; what it knows is in its attributes.

    `node` is the title of the node under way, `step` and `steps` its steps where it has more than one.
    """

    def __init__(self, workflow: Mapping[str, Any], prompt_id: str) -> None:
        self._workflow = workflow
        self._prompt_id = prompt_id
        self._weights = {node_id: _weight(node) for node_id, node in workflow.items()}
        self._done = dict.fromkeys(self._weights, 0.0)
        self._total = sum(self._weights.values()) or 1.0
        self._percent = 0.0
        self._current = ""
        self.step: int | None = None
        self.steps: int | None = None

    @property
    def percent(self) -> float:
        """0 to 100. Never goes back."""
        return self._percent

    @property
    def node(self) -> str:
        """The title of the node under way."""
        return title_of(self._workflow, self._current)

    @property
    def message(self) -> str:
        """For the person who waits."""
        if not self._current:
            return "Starting"
        return f"{self.node}: step {self.step} of {self.steps}" if self.steps else self.node

    def eta_s(self, elapsed_s: float) -> float | None:
        """Seconds left, by what has been done in `elapsed_s`. None until a twentieth is done."""
        if self._percent < 5.0:
            return None
        return round(elapsed_s * (100.0 - self._percent) / self._percent, 1)

    def feed(self, message: Mapping[str, Any]) -> bool:
        """Take in a message. Returns whether it told anything of this prompt."""
        data = message.get("data")
        if not isinstance(data, Mapping) or data.get("prompt_id", self._prompt_id) != self._prompt_id:
            return False
        match message.get("type"):
            case "execution_cached":
                for node_id in data.get("nodes") or ():
                    self._finish(str(node_id))
            case "progress_state":
                self._states(data.get("nodes"))
            case "executing":
                self._executing(data.get("node"))
            case "progress":
                self._stepped(str(data.get("node", "")), data.get("value"), data.get("max"))
            case "executed":
                self._finish(str(data.get("node", "")))
            case "execution_success":
                self._done = dict.fromkeys(self._done, 1.0)
            case _:
                return False
        done = sum(self._weights[node_id] * part for node_id, part in self._done.items())
        self._percent = max(self._percent, round(100.0 * done / self._total, 1))
        return True

    def _states(self, nodes: Any) -> None:
        for node_id, state in nodes.items() if isinstance(nodes, Mapping) else ():
            if node_id not in self._done or not isinstance(state, Mapping):
                continue
            if state.get("state") == "finished":
                self._finish(node_id)
            elif state.get("state") == "running":
                if node_id != self._current:
                    self._start(node_id)
                self._stepped(node_id, state.get("value"), state.get("max"))

    def _executing(self, node_id: Any) -> None:
        """Without progress_state (an older ComfyUI) a node is over when the next one begins."""
        if node_id is None or str(node_id) not in self._done or str(node_id) == self._current:
            return
        self._finish(self._current)
        self._start(str(node_id))

    def _start(self, node_id: str) -> None:
        self._current = node_id
        self.step = self.steps = None

    def _stepped(self, node_id: str, value: Any, most: Any) -> None:
        if node_id not in self._done or not _is_number(value) or not _is_number(most) or most <= 0:
            return
        self._done[node_id] = max(self._done[node_id], min(max(value / most, 0.0), 1.0))
        if node_id == self._current and most > 1:
            self.step, self.steps = int(value), int(most)

    def _finish(self, node_id: str) -> None:
        if node_id in self._done:
            self._done[node_id] = 1.0


def _weight(node: Any) -> float:
    inputs = node.get("inputs") if isinstance(node, Mapping) else None
    steps = inputs.get("steps") if isinstance(inputs, Mapping) else None
    return float(min(max(steps, 1.0), _MOST_WEIGHT)) if _is_number(steps) else 1.0


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST
