"""A capture that also tells what it cost its process: what decoders run in the tests of bombs."""

import json
import resource
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from worker.errors import TaskError
from worker.media.capture import capture
from worker.media.plan import CapturePlan, PartEvent, Report

MARK = "\ncost: "


def measured(file: BinaryIO, plan: CapturePlan) -> Iterator[PartEvent]:
    """Capture; the report has `cpu_s` and `peak_bytes` among its stages, an error has them at its end."""
    try:
        for event in capture(file, plan):
            yield replace(event, stage_s=event.stage_s | _cost()) if isinstance(event, Report) else event
    except TaskError as error:
        raise TaskError(error.code, error.message + MARK + json.dumps(_cost()), retryable=error.retryable) from error
    except MemoryError as error:
        raise MemoryError(MARK + json.dumps(_cost())) from error


def _cost() -> dict[str, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": used.ru_utime + used.ru_stime, "peak_bytes": used.ru_maxrss * 1024.0}
