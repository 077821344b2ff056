"""A capture that also tells what it cost its process: what decoders run in the tests of bombs."""

import json
import resource
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from worker.errors import TaskError
from worker.media.capture import capture
from worker.media.plan import CapturePlan, PartEvent, Report, Warn

MARK = "\ncost: "


def measured(file: BinaryIO, plan: CapturePlan) -> Iterator[PartEvent]:
    """Capture; the report has `cpu_s` and `peak_bytes` in the last warning of its one entry, an error at its end."""
    try:
        for event in capture(file, plan):
            yield _with_cost(event) if isinstance(event, Report) else event
    except TaskError as error:
        raise TaskError(error.code, error.message + MARK + json.dumps(_cost()), retryable=error.retryable) from error
    except MemoryError as error:
        raise MemoryError(MARK + json.dumps(_cost())) from error


def _with_cost(report: Report) -> Report:
    (entry,) = report.entries
    told = Warn("Measured", json.dumps(_cost()))
    return replace(report, entries=(replace(entry, warnings=(*entry.warnings, told)),))


def _cost() -> dict[str, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": used.ru_utime + used.ru_stime, "peak_bytes": used.ru_maxrss * 1024.0}
