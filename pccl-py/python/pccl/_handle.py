"""An all-reduce under way."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Callable, Generator, Optional

from . import _pccl
from ._descriptors import ReduceInfo
from ._enums import Result
from ._errors import PCCLError

Outcome = tuple[bool, int, ReduceInfo]
_LONGEST_S = 1e9


class AsyncReduceHandle:
    """Wait for it, ask it, or `await` it, from any thread. The tensors are kept alive until it is done; leave them alone
    until then. Dropping the handle ends nothing."""

    def __init__(self, work: _pccl.Work, finish: Optional[Callable[[], None]]) -> None:
        self._work = work
        self._finish = finish
        self._lock = threading.Lock()
        self._outcome: Optional[Outcome] = None
        self._error: Optional[PCCLError] = None
        self._awaited: Any = None

    def wait(self, timeout: Optional[float] = None) -> Outcome:
        """Blocks until the outcome is known at all peers of the group: `(is_success, status, info)`, the same each time.

        `status` is the value of a `Result`. With `timeout`, in seconds, `TimeoutError` if there is none in time; the
        operation goes on, as it does after Ctrl-C. A tensor on a GPU has its result when this has returned.
        """
        if self._outcome is None:
            # Of years the library waits for ever.
            forever = timeout is None or timeout > _LONGEST_S
            outcome = self._work.wait(None if forever or timeout is None else max(0, int(timeout * 1000)))
            if outcome is None:
                raise TimeoutError(f"the all-reduce is not done after {timeout} s; it goes on")
            self._settle(*outcome)
        assert self._outcome is not None
        return self._outcome

    def done(self) -> bool:
        """Whether `wait` would return at once."""
        return self._outcome is not None or self._work.is_done()

    @property
    def error(self) -> Optional[PCCLError]:
        """Why it failed, in words; None while it is under way and after a success."""
        if self._outcome is None and self._work.is_done():
            self.wait()
        return self._error

    def __await__(self) -> Generator[Any, None, Outcome]:
        return self._completed().__await__()

    async def _completed(self) -> Outcome:
        if not self.done():
            import asyncio

            # One of several that wait may be cancelled.
            await asyncio.shield(self._future(asyncio.get_running_loop()))
        return self.wait()

    def _future(self, loop: Any) -> Any:
        with self._lock:
            # Nobody waits in a loop that is closed.
            if self._awaited is None or self._awaited.get_loop().is_closed():
                self._awaited = _notified(self._work, loop)
            elif self._awaited.get_loop() is not loop:
                raise RuntimeError("this all-reduce is awaited in another event loop already")
            return self._awaited

    def _settle(self, code: int, reason: str, world: int, tx_bytes: int, rx_bytes: int) -> None:
        with self._lock:
            if self._outcome is not None:
                return
            if code == 0 and self._finish is not None:
                self._finish()
            self._finish = None
            if code != 0:
                self._error = PCCLError("all_reduce_async", Result(code), reason)
            self._outcome = (code == 0, code, ReduceInfo(world, tx_bytes, rx_bytes))


def _notified(work: _pccl.Work, loop: Any) -> Any:
    """A future of the loop that is done when the work is. No thread waits for it: the library writes to a pipe."""
    future = loop.create_future()
    reading, writing = os.pipe()
    # Also if the loop is closed first.
    close = weakref.finalize(future, os.close, reading)

    def readable() -> None:
        loop.remove_reader(reading)
        close()
        if not future.done():
            future.set_result(None)

    try:
        loop.add_reader(reading, readable)
    except BaseException:
        # A loop that cannot look at pipes.
        close()
        os.close(writing)
        raise
    work.notify(writing)
    return future
