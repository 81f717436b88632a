"""`generate_variations`: several images of one prompt, to choose from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ryla_tasks.errors import InvalidJob
from ryla_tasks.settings import get_settings
from ryla_tasks.tasks.image import generate_image
from ryla_tasks.tasks.plan import CellPlan, JobPlan
from ryla_tasks.workflows import Template, draw_seed, get_template
from ryla_tasks.workflows.parameters import MAX_DRAWN_SEED

__all__ = ["derived_seed", "generate_variations"]

#: More at once are no choice any more.
MOST = 16


def generate_variations(
    previous: Any = None,
    *,
    template: str = "z-image-turbo",
    n: int = 3,
    seed: int | None = None,
    separate: bool | None = None,
    **params: Any,
) -> JobPlan:
    """Generate `n` images of one prompt on the `image` endpoint: three to choose from, say.

    Where the template can make several images in one run they are one job, and one GPU worker makes them; an image is
    then made again by the same `seed` and `n`, and its place among them. With `separate`, or where the template cannot,
    each is a job of its own with a seed of its own, derived from `seed`: it can be made again alone, several workers
    may work on them at once, and the result has those that succeeded. In both cases the result's `variations` say which
    image came of which seed, and the same seed gives the same images. `params` are the template's.

    Raises `InvalidJob` naming the field.
    """
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST:
        raise InvalidJob(f"n: must be a whole number from 1 to {MOST}", field="n")
    chosen = get_template(template, get_settings().templates_dir)
    batch = chosen.manifest.batch_parameter
    if batch is not None and batch in params:
        raise InvalidJob(f"{batch}: give n instead", field=batch)
    if batch is None and separate is False:
        raise InvalidJob(f"separate: the template {template!r} makes one image at a time", field="separate")
    with_seed = _given_seed(chosen, seed)
    if batch is None or separate:
        return _separate(chosen, previous, params, n, with_seed)
    in_one: dict[str, Any] = {**params, **with_seed, batch: n}
    try:
        plan = generate_image(previous, template=template, **in_one)
    except InvalidJob as error:
        if error.field != batch:
            raise
        raise InvalidJob(f"n: {error}", field="n") from error
    return replace(plan, list_seeds=True)


def derived_seed(seed: int, number: int) -> int:
    """The seed of a variation, counted from 0. That of the first is the seed itself."""
    if number == 0:
        return seed
    digest = hashlib.sha256(f"variation {number} of {seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % (MAX_DRAWN_SEED + 1)


def _given_seed(template: Template, seed: int | None) -> dict[str, Any]:
    if template.manifest.parameter("seed") is None:
        if seed is not None:
            raise InvalidJob(f"seed: the template {template.name!r} has none", field="seed")
        return {}
    return {"seed": draw_seed(MAX_DRAWN_SEED) if seed is None else seed}


def _separate(
    template: Template, previous: Any, params: Mapping[str, Any], n: int, with_seed: Mapping[str, Any]
) -> JobPlan:
    cells = []
    for number in range(n):
        own: dict[str, Any] = {name: derived_seed(_checked(seed), number) for name, seed in with_seed.items()}
        cells.append(
            CellPlan(f"variation-{number + 1}", generate_image(previous, template=template.name, **params, **own))
        )
    return JobPlan({}, cells=tuple(cells), label=template.name, seed=with_seed.get("seed"), list_seeds=True)


def _checked(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InvalidJob("seed: must be a whole number, 0 or more", field="seed")
    return seed
