"""What `ryla_tasks` exports, whatever has been imported before."""

from __future__ import annotations

import importlib
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
