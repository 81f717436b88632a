"""From the table to Prometheus: a collector that looks at the fleet anew for each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.metrics_core import Metric as Family
    from prometheus_client.registry import Collector
    from prometheus_client.utils import floatToGoString
except ImportError as error:
    raise ImportError("The metrics exporter needs the metrics extra: pip install 'ryla-tasks[metrics]'.") from error

from ryla_tasks.errors import StoreError
from ryla_tasks.logs import Log
from ryla_tasks.metrics.definition import Kind, Metric, View
from ryla_tasks.metrics.table import METRICS, UP
from ryla_tasks.store.metrics import Histogram

__all__ = ["FleetCollector", "registry_of"]

log = Log(__name__)


class FleetCollector(Collector):
    """The metrics of the fleet. Where Redis does not answer there is `ryla_up 0`, and nothing else."""

    def __init__(self, look: Callable[[], View]) -> None:
        self._look = look

    def collect(self) -> Iterator[Family]:
        try:
            view = self._look()
        except StoreError as error:
            log.warning("metrics.no_redis", error=error)
            yield GaugeMetricFamily(UP.name, UP.help, value=0)
            return
        yield from (_family(metric, view) for metric in METRICS)

    def describe(self) -> Iterator[Family]:
        """Nothing, so that registering it does not look."""
        return iter(())


def registry_of(look: Callable[[], View]) -> CollectorRegistry:
    """A registry with the metrics of the fleet alone: this process is of no interest."""
    registry = CollectorRegistry()
    registry.register(FleetCollector(look))
    return registry


def _family(metric: Metric, view: View) -> Family:
    family: CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
    match metric.kind:
        case Kind.COUNTER:
            family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        case Kind.GAUGE:
            family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        case Kind.HISTOGRAM:
            family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in metric.read(view):
        if isinstance(value, Histogram):
            assert isinstance(family, HistogramMetricFamily)
            buckets = [(floatToGoString(bound), n) for bound, n in value.cumulated(metric.buckets)]  # type: ignore[no-untyped-call]
            family.add_metric(labels, buckets, value.sum)
        else:
            assert not isinstance(family, HistogramMetricFamily)
            family.add_metric(labels, value)
    return family
