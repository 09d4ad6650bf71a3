"""The programs that exported files are for, which not everybody has installed."""

from __future__ import annotations

import importlib
from types import ModuleType

from ddpm_cli.errors import RequestError

INSTALL = "pip install 'ddpm-cli[interop]'"


def interop_module(name: str, wanted_for: str) -> ModuleType:
    """A module of the extra `interop`.

    Args:
        name: Of the module.
        wanted_for: What needs it, for an error.
    Raises:
        RequestError: If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RequestError(f"{wanted_for} needs the package {name}, which is missing.", f"Install it: {INSTALL}") from error
