"""Runs a master until Ctrl-C: `python -m pccl.master --listen-address 0.0.0.0:48148`, or `pccl_master`."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import Any, Optional, Sequence

from . import MasterNode, PCCLError


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="pccl_master", description="Runs the master of a pccl run until Ctrl-C.")
    parser.add_argument(
        "--listen-address", default="0.0.0.0:48148", help="ip:port to listen at (default %(default)s)"
    )
    listen_address = parser.parse_args(arguments).listen_address

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        with MasterNode(listen_address) as master:
            master.run()
            print(f"master listens at {master.address}", flush=True)
            master.wait()
    except KeyboardInterrupt:
        return 0
    except PCCLError as error:
        print(f"pccl_master: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
