"""The fallbacks of a template: other model files in the same workflow, or another template with the same parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ryla_tasks.errors import ConfigurationError, InvalidJob, UnknownTemplate
from ryla_tasks.jobs.fallback import FallbackKind
from ryla_tasks.jobs.falling_back import MOST_FALLBACKS
from ryla_tasks.workflows.carrying import carried, mismatch
from ryla_tasks.workflows.images import InputImage
from ryla_tasks.workflows.manifest import FallbackRule
from ryla_tasks.workflows.optional import is_empty
from ryla_tasks.workflows.template import RenderedWorkflow, Template

__all__ = ["RenderedFallback", "check_fallbacks", "render_fallbacks"]

#: Gives the template of a name; raises `UnknownTemplate`.
Find = Callable[[str], Template]


@dataclass(frozen=True, slots=True)
class RenderedFallback:
    """A workflow to try where another has failed: `to` in place of `source`. `on` as in the manifest, None for the
    usual. `template` is the one it was made of, `fallbacks` are its own."""

    kind: FallbackKind
    source: str
    to: str
    on: tuple[str, ...] | None
    template: Template
    workflow: dict[str, Any] = field(repr=False)
    expected_images: int
    seed: int | None
    images: tuple[InputImage, ...] = ()
    faces: tuple[str, ...] = ()
    fallbacks: tuple[RenderedFallback, ...] = ()


def check_fallbacks(template: Template, find: Find) -> None:
    """Raise `ConfigurationError` where a fallback of the template, or of those it leads to, can never be taken."""
    count = _check(template, find, (template.name,))
    if count > MOST_FALLBACKS:
        raise ConfigurationError(
            f"template {template.name!r}: has {count} fallbacks, those of its fallbacks included, more than "
            f"{MOST_FALLBACKS}"
        )


def _check(template: Template, find: Find, path: tuple[str, ...]) -> int:
    """Checks them in depth; returns how many they are."""
    count = 0
    for rule in template.manifest.fallbacks:
        count += 1
        if rule.template is None:
            continue
        if rule.template in path:
            circle = " -> ".join((*path, rule.template))
            raise ConfigurationError(f"template {path[0]!r}: its fallbacks go round in a circle: {circle}")
        try:
            other = find(rule.template)
        except UnknownTemplate as error:
            raise ConfigurationError(f"template {template.name!r}: fallbacks: {error}") from error
        if problem := mismatch(template.manifest, other.manifest, rule.params):
            raise ConfigurationError(f"template {template.name!r}: fallback to {rule.template!r}: {problem}")
        count += _check(other, find, (*path, rule.template))
    return count


def render_fallbacks(
    template: Template,
    rendered: RenderedWorkflow,
    given: Mapping[str, Any],
    *,
    internal: Mapping[str, Any] | None,
    find: Find,
) -> tuple[RenderedFallback, ...]:
    """The fallbacks of a template that was rendered with the parameters `given`; it has passed `check_fallbacks`.

    One that is no help for these parameters is left out: another template that does not admit them, other model files
    where these parameters choose none of those that are exchanged, or one that says so (`unless`).
    """
    found = []
    for rule in template.manifest.fallbacks:
        if any(given.get(name) is not None and not is_empty(given[name]) for name in rule.unless):
            continue
        if rule.template is None:
            found.append(_other_models(template, rendered, rule))
        else:
            found.append(_other_template(template, rendered, given, rule, internal, find))
    return tuple(one for one in found if one is not None)


def _other_models(template: Template, rendered: RenderedWorkflow, rule: FallbackRule) -> RenderedFallback | None:
    exchanged, workflow = template.with_models(rendered.workflow, rule.models or {})
    if not exchanged:
        return None
    return RenderedFallback(
        FallbackKind.MODEL,
        ", ".join(exchanged),
        ", ".join(exchanged.values()),
        rule.on,
        template,
        workflow,
        rendered.expected_images,
        rendered.seed,
        rendered.images,
        rendered.faces,
    )


def _other_template(
    template: Template,
    rendered: RenderedWorkflow,
    given: Mapping[str, Any],
    rule: FallbackRule,
    internal: Mapping[str, Any] | None,
    find: Find,
) -> RenderedFallback | None:
    other = find(rule.template or "")
    params = carried(template.manifest, other.manifest, rule.params, given, rendered.params)
    if params is None:
        return None
    try:
        again = other.render_with(params, internal=internal)
    except InvalidJob:
        return None
    return RenderedFallback(
        FallbackKind.WORKFLOW,
        template.name,
        other.name,
        rule.on,
        other,
        again.workflow,
        again.expected_images,
        again.seed,
        again.images,
        again.faces,
        render_fallbacks(other, again, params, internal=internal, find=find),
    )
