"""What a worker tells Prometheus, and what an expression asks of it."""

from functools import cache

import promql_parser
from prometheus_client import CollectorRegistry

from worker.adapters.amqp import Broker
from worker.adapters.pool import DecoderPool
from worker.metrics import Metrics
from worker.service import watch_gauges
from worker.settings import Amqp, Pool, Retry


@cache
def samples():
    """All series of a worker that has done nothing yet."""
    metrics = Metrics(CollectorRegistry())
    metrics.build.info({"version": "1", "ffmpeg": "1", "python": "1"})
    watch_gauges(metrics, DecoderPool(Pool(slots=1)), Broker(Amqp(), Retry()))
    return tuple(sample for family in metrics.registry.collect() for sample in family.samples)


def selectors(node):
    """List all selectors of series in a parsed expression."""
    if isinstance(node, promql_parser.VectorSelector):
        return [node]
    if isinstance(node, promql_parser.MatrixSelector):
        return [node.vector_selector]
    parts = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "param")]
    return [found for part in [*parts, *getattr(node, "args", [])] if part is not None for found in selectors(part)]
