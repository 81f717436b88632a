"""`make_character_sheet`: one character from several sides, a job for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ryla_tasks.errors import InvalidJob, JobNotFound
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.sheet import cell_entry, check_cells, state_of
from ryla_tasks.jobs.states import State
from ryla_tasks.settings import get_settings
from ryla_tasks.store.sheets import SheetView
from ryla_tasks.tasks.image import generate_image
from ryla_tasks.tasks.plan import CellPlan, JobPlan
from ryla_tasks.tasks.plan_json import cell_plan
from ryla_tasks.tasks.runtime import runtime_of
from ryla_tasks.workflows import draw_seed, get_template
from ryla_tasks.workflows.parameters import MAX_DRAWN_SEED

__all__ = ["ANGLES", "TASK", "make_character_sheet"]

TASK = "ryla.make_character_sheet"
TEMPLATE = "character-sheet-pose"

#: What a sheet shows if nothing else is asked for.
ANGLES = (
    "front", "three-quarter-left", "three-quarter-right", "side-left", "side-right", "back", "close-up", "full-body",
)  # fmt: skip

#: Other words for some of them.
_ALIASES = {"side": "side-left", "three-quarter": "three-quarter-left", "profile": "side-left", "face": "close-up"}


def make_character_sheet(
    previous: Any = None,
    *,
    image: Any = None,
    angles: Sequence[str | Mapping[str, Any]] | None = None,
    seed: int | None = None,
    min_cells: int | None = None,
    template: str | None = None,
    resume: str | None = None,
    **params: Any,
) -> JobPlan:
    """Show the character of `image` from several `angles`, each a job of its own (a cell) on the `special` endpoint.

    `image` is `{"url": "https://..."}`, `{"image": <base64>}`, or an artifact of a result; if it is not given it is the
    first of the `previous` result in a chain. An angle is a word that the template knows, or an object of it with
    parameters of its own (`{"angle": "side-left", "pose": {"url": ...}}`, `"name"` for one that comes twice). All have
    the same seed. The sheet is one job with one progress. It has completed when at least `min_cells` (1) of its cells
    have an image; the result says which are `missing`, and why.

    `resume` is the id of a sheet that has ended: the new sheet takes over what that one has made, and makes what is
    missing, as it was asked for then, for the same user. Raises `InvalidJob` naming the field.
    """
    if resume is not None:
        given = {"image": image, "angles": angles, "seed": seed, "template": template, **params}
        if also := [name for name, value in given.items() if value is not None]:
            raise InvalidJob(f"{also[0]}: a sheet is resumed as it was asked for; leave it out", field=also[0])
        return _resumed(resume, min_cells)
    chosen = get_template(template or TEMPLATE, get_settings().templates_dir)
    if chosen.manifest.parameter("angle") is None:
        raise InvalidJob(f"template: {chosen.name!r} has no parameter angle", field="template")
    if chosen.manifest.parameter("seed") is not None:
        params["seed"] = draw_seed(MAX_DRAWN_SEED) if seed is None else seed
    elif seed is not None:
        raise InvalidJob(f"seed: the template {chosen.name!r} has none", field="seed")
    if image is not None:
        params["image"] = image
    wanted = [_angle(one) for one in (ANGLES if angles is None else _listed(angles))]
    least = 1 if min_cells is None else min_cells
    check_cells([name for name, _ in wanted], least, "angles")
    cells = [
        CellPlan(name, generate_image(previous, template=chosen.name, **{**params, **own})) for name, own in wanted
    ]
    return JobPlan({}, cells=tuple(cells), min_cells=least, label=chosen.name, seed=params.get("seed"))


def _listed(angles: Any) -> Sequence[Any]:
    if isinstance(angles, str | Mapping) or not isinstance(angles, Sequence):
        raise InvalidJob("angles: must be a list of angles", field="angles")
    return angles


def _angle(one: Any) -> tuple[str, dict[str, Any]]:
    """A cell's name, and its own parameters."""
    if isinstance(one, str):
        one = {"angle": one}
    if not isinstance(one, Mapping) or not isinstance(one.get("angle"), str):
        raise InvalidJob("angles: each is a word, or an object with an angle", field="angles")
    own = dict(one)
    word = own["angle"].strip().lower().replace("_", "-")
    own["angle"] = _ALIASES.get(word, word)
    return str(own.pop("name", word)), own


def _resumed(sheet_id: str, min_cells: int | None) -> JobPlan:
    record, view = _ended_sheet(sheet_id)
    kept, cells = {}, []
    for cell in view.cells:
        if state_of(cell) is State.COMPLETED:
            kept[cell.name] = cell_entry(cell)
        elif view.plan is None:
            raise InvalidJob(f"resume: the input of the sheet {sheet_id} is gone", field="resume")
        else:
            cells.append(CellPlan(cell.name, cell_plan(view.plan, cell.name)))
    if not cells:
        raise InvalidJob(f"resume: nothing is missing of the sheet {sheet_id}", field="resume")
    spec = record.spec
    return JobPlan(
        {},
        endpoint=spec.endpoint,
        cells=tuple(cells),
        kept=kept,
        names=spec.cells,
        resumes=record.job_id,
        user_id=spec.user_id,
        min_cells=spec.min_cells if min_cells is None else min_cells,
        label=spec.label,
        seed=spec.seed,
        list_seeds=spec.list_seeds,
    )


def _ended_sheet(sheet_id: str) -> tuple[JobRecord, SheetView]:
    from ryla_tasks.celery_app import current_app

    runtime = runtime_of(current_app())
    try:
        record, _now = runtime.store.load(str(sheet_id))
        while record.alias_of:
            record, _now = runtime.store.load(record.alias_of)
    except JobNotFound as error:
        raise InvalidJob(f"resume: {error}", field="resume") from error
    if not record.spec.cells:
        raise InvalidJob(f"resume: the job {sheet_id} is no sheet", field="resume")
    if not record.state.ended:
        raise InvalidJob(f"resume: the sheet {sheet_id} is still {record.state}", field="resume")
    return record, runtime.sheets.view(record)
