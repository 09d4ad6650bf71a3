"""The command as it would find itself on Windows, as far as that can be acted out on Linux; executed by test_windows.py.

Modules of this package, and they alone, see a Python without what is of POSIX, whose os and shutil refuse what Windows refuses: to
open a folder, to put a folder in the place of another, to move or remove what is open or mapped into memory, to sync what is open
for reading. A descriptor that is opened without O_BINARY is an error, because Windows would translate line ends.

Usage: as_windows.py FOLDER, which runs the commands below in that folder, after the import of every module.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import importlib
import os
import pkgutil
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

ABSENT_MODULES = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty")
OF_OS = """O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC ST_RDONLY chown fchdir fchmod fchown fork fstatvfs getegid
    geteuid getgid getloadavg getpgid getuid killpg lchown mkfifo mknod nice pread preadv pwrite pwritev register_at_fork
    sched_getaffinity setsid statvfs sync sysconf uname wait waitpid"""
OF_SIGNAL = "SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGUSR1 SIGUSR2 alarm pause setitimer"
ABSENT = {"os": set(OF_OS.split()), "signal": set(OF_SIGNAL.split()), "shutil": {"chown"}}
O_BINARY = 1 << 40


def in_use(path: str | os.PathLike[str]) -> bool:
    """Whether this process has a file open or mapped at or below a path."""
    target = os.path.realpath(path)
    opened = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    mapped = [line.split(maxsplit=5)[-1].strip() for line in Path("/proc/self/maps").read_text().splitlines()]
    return any(name == target or name.startswith(f"{target}/") for name in (*opened, *mapped))


def refuse(path: object, reason: str, number: int = errno.EACCES) -> None:
    raise PermissionError(number, f"{reason}, which Windows does not do", str(path))


def open_(path: Any, flags: int, mode: int = 0o777) -> int:
    if os.path.isdir(path):
        refuse(path, "opened a folder")
    assert flags & O_BINARY, f"{path} is opened as text: line ends would be translated"
    return os.open(path, flags & ~O_BINARY, mode)


def replace(source: Any, target: Any) -> None:
    if os.path.isdir(target) or (os.path.isdir(source) and os.path.lexists(target)):
        refuse(target, "put something in the place of a folder, or a folder in that of a file")
    for path in (source, target):
        if os.path.lexists(path) and in_use(path):
            refuse(path, "moved what is open")
    os.replace(source, target)


def rename(source: Any, target: Any) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "renamed onto something, which Windows does not do", str(target))
    replace(source, target)


def unlink(path: Any) -> None:
    if in_use(path):
        refuse(path, "removed what is open")
    os.unlink(path)


def rmtree(path: Any, **options: Any) -> None:
    if in_use(path):
        refuse(path, "removed what is open")
    shutil.rmtree(path, **options)


def fsync(descriptor: int) -> None:
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "synced a file that is open for reading, which Windows does not do")
    os.fsync(descriptor)


def kill(process: int, number: int) -> None:
    raise AssertionError(f"os.kill({process}, {number}) ends the process on Windows")


class StandIn(ModuleType):
    """A module without some of its names, and with others in the place of some."""

    def __init__(self, module: ModuleType, **others: Any) -> None:
        super().__init__(module.__name__)
        self._module = module
        vars(self).update(others)

    def __getattr__(self, name: str) -> Any:
        if name in ABSENT[self.__name__]:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} on Windows")
        return getattr(self._module, name)


IN_PLACE = {
    "open": open_,
    "replace": replace,
    "rename": rename,
    "unlink": unlink,
    "remove": unlink,
    "fsync": fsync,
    "kill": kill,
}
STAND_INS = {
    "os": StandIn(
        os,
        name="nt",
        O_BINARY=O_BINARY,
        open=open_,
        replace=replace,
        rename=rename,
        unlink=unlink,
        remove=unlink,
        fsync=fsync,
        kill=kill,
    ),
    "signal": StandIn(signal),
    "shutil": StandIn(shutil, rmtree=rmtree),
}
real_import: Callable[..., Any] = builtins.__import__


def import_(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    if level == 0 and str((globals or {}).get("__name__", "")).partition(".")[0] == "ddpm_cli":
        if name in ABSENT_MODULES:
            raise ModuleNotFoundError(f"No module named {name!r} on Windows", name=name)
        if name in STAND_INS:
            return STAND_INS[name]
    return real_import(name, globals, locals, fromlist, level)


COMMANDS = (
    "--help",
    "inspect-schedule",
    "train {tiny} --steps=2 --name=tiny",
    "resume tiny --steps=4",
    "sample tiny --n=2 --steps=2 --out=grid.png --each=images",
    "export tiny --out=model.safetensors",
    "sample model.safetensors --n=1 --steps=1 --out=grid.png",
    "train {tiny} --data=images --batch-size=1 --steps=1",
    "info tiny",
    "ls",
)


def main(folder: str) -> None:
    builtins.__import__ = import_
    os.environ["DDPM_CACHE"] = f"{folder}/cache"
    os.chdir(folder)
    package = importlib.import_module("ddpm_cli")
    for found in pkgutil.walk_packages(package.__path__, "ddpm_cli."):
        if found.name != "ddpm_cli.__main__":
            importlib.import_module(found.name)
    from command import TINY

    from ddpm_cli.cli.app import run
    from ddpm_cli.core.compute.signals import interrupt_on_signals

    interrupt_on_signals()
    tiny = " ".join((*TINY, "--set=schedule.timesteps=20"))
    for command in COMMANDS:
        status = run(command.format(tiny=tiny).split(), debug=True)
        if status:
            sys.exit(f"`ddpm {command}` would fail on Windows")


if __name__ == "__main__":
    main(sys.argv[1])
