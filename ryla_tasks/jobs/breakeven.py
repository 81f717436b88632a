"""At how much work a pod of one's own costs less than a serverless endpoint. Pure. Money is US dollars."""

from __future__ import annotations

from dataclasses import dataclass

from ryla_tasks.jobs.money import dollars
from ryla_tasks.jobs.usage import Usage

__all__ = ["BreakEven", "break_even"]

_DAY_H = 24.0


@dataclass(frozen=True, slots=True)
class BreakEven:
    """A pod that is always on, against what a day of an endpoint has cost.

    `run_h` is how many hours of runs a day there were, `hour_usd` what each of them has cost with all starts and
    failures; at `even_h` hours of runs a day both cost the same. Above 24 one pod is never the cheaper one; and above
    what one GPU can do in a day there would have to be a second pod.
    """

    pod_a_day: float
    serverless_a_day: float
    run_h: float
    hour_usd: float | None
    images_a_day: float

    @property
    def even_h(self) -> float | None:
        """Hours of runs a day; None without a history."""
        return self.pod_a_day / self.hour_usd if self.hour_usd else None

    @property
    def even_images(self) -> float | None:
        """The same in images a day, of the kind that was made."""
        if not (self.even_h and self.run_h and self.images_a_day):
            return None
        return self.images_a_day * self.even_h / self.run_h

    @property
    def sentence(self) -> str:
        """What to do about it."""
        if self.even_h is None:
            return "No runs at a known price yet: nothing can be said."
        use = f"{self.run_h:.1f} h of runs a day cost ${self.serverless_a_day:,.2f}, a pod ${self.pod_a_day:,.2f}"
        if self.even_h > _DAY_H:
            return f"{use}: one pod would not be cheaper even if it worked day and night."
        images = f", {self.even_images:,.0f} images" if self.even_images else ""
        word = "below" if self.run_h < self.even_h else "above"
        return f"{use}: {word} the break-even at {self.even_h:.1f} h a day{images}."


def break_even(used: Usage, days: float, pod_per_hour: float) -> BreakEven:
    """Weigh a pod against what was used in so many days at a price."""
    run_h = used.run_ms / 3_600_000 - used.unpriced_ms / 3_600_000
    cost = dollars(used.cost)
    return BreakEven(
        pod_a_day=pod_per_hour * _DAY_H,
        serverless_a_day=cost / days,
        run_h=run_h / days,
        hour_usd=cost / run_h if run_h > 0 and cost > 0 else None,
        images_a_day=used.images / days,
    )
