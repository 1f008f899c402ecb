"""The command `pccl` of the wheel: `pccl master`, `pccl demo`, `pccl bench`. As `python -m pccl._command` too."""

from __future__ import annotations

import sys

from . import _pccl


def main() -> int:
    # Its child processes are itself once more, whatever the script is called that started it.
    return _pccl.command(["pccl", *sys.argv[1:]], [sys.executable, "-m", "pccl._command"])


if __name__ == "__main__":
    sys.exit(main())
