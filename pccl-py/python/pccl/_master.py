"""The one everybody connects to."""

from __future__ import annotations

import atexit
import weakref
from typing import Any

from . import _errors, _pccl

# Those that were started and may have to outlive the last line of their script.
_running: weakref.WeakSet[MasterNode] = weakref.WeakSet()


class MasterNode:
    """A run's master, listening at "ip:port" (port 0: any free one, see `address`).

    Dropping one that runs, and the end of the script, block until it is interrupted or Ctrl-C comes: a script may end with
    `master.run()`. Leaving a `with` block interrupts it.
    """

    def __init__(self, listen_address: str) -> None:
        self._master = _errors.call("MasterNode", _pccl.Master, listen_address)

    def run(self) -> None:
        """Starts to serve in the background. A port in use is an error here."""
        _errors.call("run", self._master.run)
        _running.add(self)

    @property
    def address(self) -> str:
        """Where a running master listens, as "ip:port"."""
        return _errors.call("address", self._master.address)

    def wait(self) -> None:
        """Blocks until it was interrupted, by another thread, or has ended by itself."""
        _errors.call("wait", self._master.stay)

    def interrupt(self) -> None:
        """Ends it: no thread and no socket is left. After Ctrl-C it goes on ending by itself."""
        _errors.call("interrupt", self._master.interrupt)

    def __enter__(self) -> MasterNode:
        return self

    def __exit__(self, *_: Any) -> None:
        self.interrupt()


@atexit.register
def _stay() -> None:
    """While signals still have their handlers: after this the interpreter takes them away."""
    for master in list(_running):
        try:
            master.wait()
        except KeyboardInterrupt:
            master.interrupt()
        except _errors.PCCLError:
            # A forked child's copy, or one whose thread has failed: nothing to wait for.
            pass
        except BaseException:
            # A handler of the program's own, as for SIGTERM.
            master.interrupt()
            raise
