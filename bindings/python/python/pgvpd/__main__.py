"""The `pgvpd` command: `pgvpd --help`."""

import signal
import sys

from pgvpd import _pgvpd


def main() -> int:
    """Runs the program with the arguments of this process, and returns its exit code."""
    # The program has handlers of its own; Python's would add a KeyboardInterrupt to a stop in good order.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _pgvpd.run_command(["pgvpd", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
