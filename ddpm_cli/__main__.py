"""Start the command `ddpm`, and `python -m ddpm_cli`, which is the same."""

from __future__ import annotations

import sys

SIGINT = 2  # instead of that of the module signal, during whose import Ctrl-C would show a traceback


def main() -> None:
    """Run the command; Ctrl-C before it can say so itself, for instance during the imports, ends it quietly."""
    try:
        from ddpm_cli.cli.app import main as run

        run()
    except KeyboardInterrupt as interrupt:
        sys.exit(128 + getattr(interrupt, "signal_number", SIGINT))


if __name__ == "__main__":
    main()
