"""A decision about a job as the operation `settle` reads it."""

from __future__ import annotations

import json
from typing import Any

from ryla_tasks.jobs.lifecycle import Decision, Step
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.stats import sample_of
from ryla_tasks.store.budgets import Budgets
from ryla_tasks.store.codec import Meta, dumps, event_json

__all__ = ["settle_item"]


def settle_item(before: JobRecord, decision: Decision, now: float, meta: Meta, budgets: Budgets) -> dict[str, Any]:
    """A decision as `settle` reads it: what has not changed is left out."""
    after = decision.record
    item: dict[str, Any] = {
        "id": before.job_id,
        "old": str(before.state),
        "new": str(after.state),
        "to": _place(after, decision.step),
        "in_ms": round(decision.in_s * 1000),
        **_changes(before, after),
        **_orders(before, decision),
        **_fallback(before, decision),
        **_money(before, decision, budgets),
    }
    if after.spec.sheet and after.ending is None:
        item["cell"] = [after.spec.sheet, after.spec.cell, f"{after.observed.percent:.1f}"]
    if decision.event:
        item["event"] = event_json(decision.event, after, now, **_told(before, after))
        if after.ending is None and not after.spec.ignore_result:
            item["meta"] = meta.of(after, now)
    return item


def _changes(before: JobRecord, after: JobRecord) -> dict[str, Any]:
    """What is new in the record."""
    changes: dict[str, Any] = {}
    if after.observed != before.observed:
        changes["observed"] = after.observed.to_json()
    if after.retries != before.retries:
        changes["retries"] = after.retries
    if after.unanswered != before.unanswered:
        changes["unanswered"] = dumps(after.unanswered)
    if after.ending is not None:
        changes["ending"] = json.dumps(after.ending)
    return changes


def _fallback(before: JobRecord, decision: Decision) -> dict[str, Any]:
    """What takes the place of what has failed."""
    after = decision.record
    if after.fallbacks == before.fallbacks:
        return {}
    fallback: dict[str, Any] = {
        "kind": after.fallbacks[-1].kind,
        "taken": dumps([line.kept() for line in after.fallbacks]),
    }
    if decision.fallback_input is not None:
        only = dumps(after.spec.only) if after.spec.only else ""
        fallback |= {"input": decision.fallback_input, "spec": after.spec.to_json(), "only": only}
    return {"fallback": fallback}


def _told(before: JobRecord, after: JobRecord) -> dict[str, str]:
    """What the event says besides of a fallback. Which target comes next is not known yet."""
    taken = after.fallbacks[len(before.fallbacks) :]
    return {name: word for name, word in taken[-1].to_json().items() if word} if taken else {}


def _orders(before: JobRecord, decision: Decision) -> dict[str, Any]:
    """What is to be done beside the record."""
    orders: dict[str, Any] = {}
    sample = sample_of(before, decision.record)
    # A sheet has been at no target.
    if sample is not None and before.target:
        orders["sample"] = [before.target, sample.to_json(), before.spec.kind, before.spec.endpoint]
        orders["used"] = _used(decision)
    if decision.outcome is not None:
        orders["outcome"] = [before.target, str(decision.outcome.call), int(decision.outcome.bad)]
    if decision.orphaned:
        orders["orphan"] = f"{before.target} {before.remote_id}"
    if decision.withdraw is not None:
        orders["withdraw"] = decision.withdraw
    if decision.output is not None:
        orders["output"] = json.dumps(decision.output)
    if decision.step is not Step.POLL:
        orders["message"] = True
    return orders


def _money(before: JobRecord, decision: Decision, budgets: Budgets) -> dict[str, Any]:
    """What changes of a job's money, in micro-dollars; `commands/money.lua` carries it out."""
    after, changes = decision.record, dict[str, Any]()
    if not before.money.is_kept:
        return changes
    if decision.start is not None:
        start = decision.start
        sent, began = round(start.sent * 1e6), round(start.began * 1e6)
        changes["start"] = {"target": before.target, "sent": sent, "began": began, "ms": start.ms, "cost": start.cost}
    if after.state.ended or after.state is State.QUEUED:
        changes["spent"] = after.money.paid - before.money.paid
        if decision.assumed:
            changes["assumed"] = True
    elif after.money.reserved > before.money.reserved:
        changes["reserve"] = after.money.reserved
    return {"money": changes | budgets.over(before.spec)} if changes else {}


def _used(decision: Decision) -> dict[str, int]:
    """What the attempt that ends here has used, for the ledger."""
    artifacts = ((decision.record.ending or {}).get("result") or {}).get("artifacts") or ()
    used = {"images": sum(one["content_type"].startswith("image/") for one in artifacts)}
    return used if decision.ran_ms is None else {**used, "run_ms": decision.ran_ms}


def _place(record: JobRecord, step: Step) -> str:
    match step:
        case Step.SUBMIT:
            return f"submit:{record.spec.endpoint}"
        case Step.POLL:
            return f"poll:{record.target}"
        case Step.DELIVER:
            return "deliver"
        case Step.SPREAD:
            return "spread"
