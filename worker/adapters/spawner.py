"""Where decoder processes come from: a fork server that is replaced when it is lost, and children that are ready.

Knows what has to hold a child before it is given a task. Must not know slots and captures.
"""

import asyncio
import logging
import os

from worker import settings
from worker.adapters import wire
from worker.adapters.children import START_TIMEOUT_S, Child, ForkServer
from worker.errors import Code, TaskError

DATA_HEADROOM_BYTES = 2**30  # between the limit on memory that is sampled and the one that the kernel keeps

log = logging.getLogger(__name__)


class Spawner:
    """Starts decoders that run `function`, a dotted `module:name`, held as the settings say."""

    def __init__(self, limits: settings.Pool, function: str) -> None:
        self._limits = limits
        self._function = function
        self._lock = asyncio.Lock()
        self._server: ForkServer | None = None
        self._held: wire.Ready | None = None  # as the log was told

    @property
    def server_pid(self) -> int | None:
        """The process id of the fork server; None before the first start."""
        return self._server.pid if self._server is not None else None

    async def spawn(self) -> Child:
        """Start a child, and the fork server before it if there is none.

        Raises `InternalError` where that fails, or the child's sandbox is not what the settings require.
        """
        async with self._lock:
            if self._server is None or self._server.lost:
                if self._server is not None:
                    await self._server.close()
                limit = self._limits.memory_bytes + DATA_HEADROOM_BYTES
                sandbox = self._limits.sandbox != "off"
                self._server = await ForkServer.start(self._function, limit, sandbox=sandbox)
        child = await self._server.fork()
        try:
            self._judge(await self._ready(child))
        except BaseException:
            child.kill()
            child.close()
            raise
        return child

    async def close(self) -> None:
        """End the fork server and its children, and wait until they are gone."""
        if self._server is not None:
            await self._server.close()

    async def _ready(self, child: Child) -> wire.Ready:
        """Wait for the child's word on what holds it."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                first = await child.receive(0)
        except TimeoutError as error:
            text = f"a decoder process was not ready after {START_TIMEOUT_S} s"
            raise TaskError(Code.INTERNAL_ERROR, text, retryable=True) from error
        if not isinstance(first, wire.Ready):
            how = await child.end() if first is None else f"said {first!r:.80}"
            raise TaskError(Code.INTERNAL_ERROR, f"a decoder process {how} before it was ready", retryable=True)
        return first

    def _judge(self, held: wire.Ready) -> None:
        """Tell the log what holds decoders, once, and refuse less than is required."""
        missing = _missing(held) if self._limits.sandbox != "off" else []
        if self._limits.sandbox == "required" and missing:
            raise TaskError(
                Code.INTERNAL_ERROR,
                f"FRAME_CAPTURE_POOL__SANDBOX is required, but this machine has no {' and no '.join(missing)}: use a "
                "newer kernel or another container runtime, or set it to best_effort, which does with what there is",
            )
        if held == self._held:
            return
        self._held = held
        kept = f"sandbox={self._limits.sandbox} landlock_abi={held.landlock_abi} seccomp={held.seccomp}"
        if self._limits.sandbox == "off":
            log.warning("decoders run without a sandbox: %s", kept)
        elif missing:
            log.warning("decoders run in a sandbox without %s: %s", " and ".join(missing), kept)
        else:
            log.info("decoders run in a sandbox: %s", kept)


def _missing(held: wire.Ready) -> list[str]:
    system = os.uname()
    return [
        *([] if held.landlock_abi else [f"Landlock (kernel {system.release})"]),
        *([] if held.seccomp else [f"seccomp filter (kernel {system.release}, {system.machine})"]),
    ]
