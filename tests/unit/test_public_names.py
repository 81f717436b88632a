"""What `ryla_tasks` exports, whatever has been imported before."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest
from celery import Celery

import ryla_tasks


def test_the_app_stays_the_app_after_all_modules_are_imported() -> None:
    for module in ("celery_app", "job", "settings", "tasks.base", "errors"):
        importlib.import_module(f"ryla_tasks.{module}")
    assert isinstance(ryla_tasks.app, Celery)


def test_no_module_has_the_name_of_a_public_object() -> None:
    modules = {module.name for module in pkgutil.iter_modules(ryla_tasks.__path__)}
    assert modules & set(ryla_tasks.__all__) == {"errors"}


@pytest.mark.parametrize("name", ryla_tasks.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(ryla_tasks, name) is not None


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ryla_tasks.nonsense


@pytest.mark.parametrize(
    "name",
    [
        "Job",
        "list_jobs",
        "configure",
        "get_settings",
        "install",
        "JobPlan",
        "FallbackPlan",
        "CellPlan",
        "ServerlessTask",
    ],
)
def test_every_public_name_is_documented_and_typed(name: str) -> None:
    thing = getattr(ryla_tasks, name)
    assert inspect.getdoc(thing)
    own = [one for word, one in vars(thing).items() if not word.startswith("_")] if inspect.isclass(thing) else [thing]
    for one in own:
        function = getattr(one, "fget", None) or getattr(one, "__func__", one)
        if inspect.isfunction(function) and function.__module__.startswith("ryla_tasks."):
            assert inspect.getdoc(function) or function.__name__ in _TOLD_ELSEWHERE, function
            assert "return" in function.__annotations__, function


#: What Celery calls by these names, and what they do, is for its documentation to say.
_TOLD_ELSEWHERE = {"backend"}


def test_what_a_job_can_do() -> None:
    public = {name for name in vars(ryla_tasks.Job) if not name.startswith("_")}
    assert public == {
        "artifact_bytes", "artifact_url", "artifacts", "cancel", "cells", "cost", "error", "events", "get", "of",
        "progress", "record", "result", "retry", "retry_missing", "status", "wait",
    }  # fmt: skip
