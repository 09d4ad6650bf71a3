"""Name packages that only some of the work needs; those that this distribution needs are in extras of it."""

from __future__ import annotations

import importlib.util

from ddpm_cli.errors import RequestError

DISTRIBUTION = "ddpm-cli"


def install_line(*extras: str) -> str:
    """Write the command that installs these extras."""
    return f"pip install '{DISTRIBUTION}[{','.join(extras)}]'"


def missing_packages(*packages: str) -> list[str]:
    """List those that are not installed, of distributions whose modules have their names, with "_" for "-"; import none."""
    return [package for package in packages if importlib.util.find_spec(package.replace("-", "_")) is None]


def require_packages(wanted_by: str, extra: str, *packages: str) -> None:
    """Refuse work whose packages are not there, before it begins.

    Args:
        wanted_by: What needs them; the start of the message.
        extra: The extra that they are in; empty where no extra of this distribution has them.
        packages: See `missing_packages`.
    Raises:
        RequestError: With the line that installs them.
    """
    if missing := missing_packages(*packages):
        are = "is" if len(missing) == 1 else "are"
        line = install_line(extra) if extra else f"pip install {' '.join(missing)}"
        raise RequestError(f"{wanted_by} needs {', '.join(missing)}, which {are} not installed.", f"Install it: {line}")
