"""The endpoints: whether they answer with our key, and whether their setup at RunPod can run our jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ryla_tasks.doctor.finding import Finding, ok, problem, warning
from ryla_tasks.errors import ConfigurationError, EndpointNotFound, ProviderError, Unauthorized

if TYPE_CHECKING:
    from ryla_tasks.providers.management import EndpointSetup
    from ryla_tasks.settings import Endpoint, Target
    from ryla_tasks.tasks.runtime import Runtime

__all__ = ["reachable", "setup", "times"]

_CALL_S = 8.0
_AT_ONCE = 8

Pair = tuple["Endpoint", "Target"]


def _each(runtime: Runtime, look: Callable[[Runtime, Pair], list[Finding]]) -> Iterator[Finding]:
    """The findings of all targets, asked side by side."""
    pairs = [(one, target) for one in runtime.settings.endpoints.values() for target in one.targets]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for findings in pool.map(lambda pair: look(runtime, pair), pairs):
            yield from findings


def reachable(runtime: Runtime) -> Iterator[Finding]:
    """GET /health of each target."""
    return _each(runtime, _health)


def _health(runtime: Runtime, pair: Pair) -> list[Finding]:
    endpoint, target = pair
    name = f"{endpoint.name} ({target.id})"
    try:
        provider, endpoint_id = runtime.provider(target.id)
        health = provider.health(endpoint_id, within_s=_CALL_S)
    except ConfigurationError as error:
        return [problem(f"{name}: {error}", f"Set {error.setting}. Processes that only enqueue jobs need none.")]
    except Unauthorized as error:
        return [problem(f"{name}: {error}", "Make a new key in RunPod's console (Settings, API Keys) that may use it.")]
    except EndpointNotFound as error:
        return [problem(f"{name}: {error}", "Correct its id: it stands in the endpoint's URL in RunPod's console.")]
    except ProviderError as error:
        return [problem(f"{name} does not answer: {error}", "Try again; see RunPod's status page.")]
    if health.workers.get("unhealthy") and not any(health.workers.get(one) for one in ("ready", "running", "idle")):
        return [warning(f"{name} has unhealthy workers and no other", "See a worker's log in RunPod's console.")]
    return [ok(f"{name} answers")]


def setup(runtime: Runtime) -> Iterator[Finding]:
    """How RunPod's management API says that each target is set up."""
    return _each(runtime, _setup)


def _setup(runtime: Runtime, pair: Pair) -> list[Finding]:
    endpoint, target = pair
    name = f"{endpoint.name} ({target.id})"
    try:
        management, endpoint_id = runtime.management(target.id)
        found = management.endpoint(endpoint_id, within_s=_CALL_S)
    except (ConfigurationError, EndpointNotFound, Unauthorized) as error:
        # An endpoint that does not exist, or no key, is told by the other check.
        return [warning(f"{name}: its setup cannot be read: {error}", "The key may be restricted to running jobs.")]
    except ProviderError as error:
        return [warning(f"{name}: its setup cannot be read: {error}", "Try again later.")]
    wrong = [*_workers(name, found), *_volume(name, found)]
    limit = _timeout(endpoint, found)
    return wrong or [ok(f"{name}: at most {found.workers_max} workers, {found.volumes} network volumes{limit}")]


def _workers(name: str, found: EndpointSetup) -> Iterator[Finding]:
    if found.workers_max == 0:
        yield problem(
            f"{name}: its maximum of workers is 0, so no job can run",
            "Set max workers above 0 in RunPod's console. RunPod lowers it to 0 after a week without requests.",
        )


def _volume(name: str, found: EndpointSetup) -> Iterator[Finding]:
    if found.volumes == 0:
        yield warning(
            f"{name}: no network volume is attached",
            "Attach the one with the models, unless they are in the worker's image.",
        )


def _timeout(endpoint: Endpoint, found: EndpointSetup) -> str:
    """RunPod's own time limit, where it is shorter than ours. Ours goes with each job, and then counts."""
    if not found.timeout_s or found.timeout_s >= endpoint.execution_timeout_s:
        return ""
    return f"; its own limit of {found.timeout_s:g} s gives way to execution_timeout_s"


def times(runtime: Runtime) -> Iterator[Finding]:
    """The time limits of each endpoint against each other, and against what jobs of its kind take."""
    for endpoint in runtime.settings.endpoints.values():
        wrong = False
        if endpoint.deadline_s < endpoint.execution_timeout_s:
            wrong = True
            yield warning(
                f"{endpoint.name}: deadline_s ({endpoint.deadline_s:g}) is shorter than execution_timeout_s "
                f"({endpoint.execution_timeout_s:g})",
                "The deadline counts waiting as well: make it longer, or jobs end timed_out while they run.",
            )
        least = _LEAST_S[endpoint.kind]
        if endpoint.execution_timeout_s < least:
            wrong = True
            yield warning(
                f"{endpoint.name}: execution_timeout_s is {endpoint.execution_timeout_s:g}, and jobs of the kind "
                f"{endpoint.kind} may take {least:g} s",
                "Raise execution_timeout_s, or jobs end timed_out.",
            )
        if not wrong:
            yield ok(f"{endpoint.name}: {endpoint.execution_timeout_s:g} s to run, {endpoint.deadline_s:g} s in all")
    if not runtime.settings.endpoints:
        yield problem("there are no endpoints in the settings", "Set RYLA_ENDPOINT_IMAGE to the id of one.")


#: What a job of a kind may well take when a worker has to load its models first: minutes for an image, an hour for a
#: LoRA of the usual 2,000 steps.
_LEAST_S = {"image": 60.0, "lora": 3_600.0, "special": 60.0}
