"""`python -m ddpm_cli` is the command `ddpm`."""

from __future__ import annotations

from ddpm_cli.cli.app import main

if __name__ == "__main__":
    main()
