"""The command, as often as it is asked for, by one process that has imported everything; see forked.py.

The server is a process of its own, because those that run tests have threads and torch operations behind them, and a fork of them
might wait for a lock for ever.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forked import Child, Speaker

MOST_SECONDS = 240
"""Of a command, which is ended then; pytest would end the test a minute later and leave it running."""

# What single commands import, so that each is imported once.
MODULES = (
    "datasets",
    "diffusers",
    "diffusers.pipelines.ddpm.pipeline_ddpm",
    "matplotlib.pyplot",
    "onnxruntime",
    "onnxscript",
    "plotly.graph_objects",
    "rich.progress",
    "rich.table",
    "scipy.linalg",
    "tensorboard.summary.writer.event_file_writer",
    "torch._dynamo",
    "torch.export",
    "torch.onnx",
    "torch.utils.tensorboard",
    "torch_fidelity",
    "torchvision",
)


CONSOLES = "ddpm_cli.render.terminal.console"
"""They read the environment, such as RANK and NO_COLOR, when they are imported, which is left to each command."""
IMPORT_CONSOLES = ("ddpm_cli.render", "ddpm_cli.api")


class Server:
    """Runs commands, in a process that executes this file.

    Args:
        path: Its PYTHONPATH, for packages that add choices.
        bare: Whether it has imported torch alone, so that a command has to import the rest as if a shell had started it.
    """

    def __init__(self, path: str, bare: bool = False) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default", "PYTHONPATH": path}
        command = [sys.executable, __file__, *["bare"] * bare]
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._logs = tempfile.TemporaryDirectory()

    def run(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], ranks: Sequence[Mapping[str, str]] = ({},)
    ) -> subprocess.CompletedProcess[str]:
        """`ddpm ARGUMENTS` in `folder`, in one process or in several at once, of which each has more variables of its own.

        Returns:
            The first status that is not 0, and what they said, which passes through files, one process after the other.
        """
        logs = [Path(self._logs.name, str(rank)) for rank in range(len(ranks))]
        asked = [{"environment": {**environment, **own}, "log": str(log)} for own, log in zip(ranks, logs, strict=True)]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"arguments": list(arguments), "folder": str(folder), "processes": asked}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        status = int(self._process.stdout.readline())
        out, err = ("".join(log.with_suffix(kind).read_text() for log in logs) for kind in (".out", ".err"))
        return subprocess.CompletedProcess(["ddpm", *arguments], status, out, err)

    def end(self) -> None:
        """Let it go, and wait for its end."""
        with self._process:
            self._logs.cleanup()


@cache
def the_server() -> Server:
    """The one server of this process, started when the first command is asked for; conftest.py ends it."""
    return Server(os.environ.get("PYTHONPATH", ""))


def end_the_server() -> None:
    """End it, if it was ever started."""
    if the_server.cache_info().currsize:
        the_server().end()
        the_server.cache_clear()


def import_everything() -> None:
    """Import this package and what single commands import, have its images unpacked, and leave all that to no garbage collector."""
    from quicker import be_quicker

    from ddpm_cli.data.sources import fashion_mnist

    package = importlib.import_module("ddpm_cli")
    own = (found.name for found in pkgutil.walk_packages(package.__path__, "ddpm_cli."))
    for module in (*MODULES, *(name for name in own if not name.startswith(IMPORT_CONSOLES))):
        importlib.import_module(module)
    assert CONSOLES not in sys.modules
    be_quicker()
    fashion_mnist.load_fashion_mnist_10k()
    # All of Fashion-MNIST, where the machine has it, would make commands take minutes longer than elsewhere.
    fashion_mnist.SYSTEM_FOLDER = Path("there-is-none")
    gc.collect()
    gc.freeze()


def fork(arguments: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> Child:
    """Start one process of a command."""
    from forked import fork_command

    def prepare(_: Speaker) -> None:
        os.environ.clear()
        os.environ.update(environment)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(log.with_suffix(".out"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        signal.alarm(MOST_SECONDS)

    return fork_command(arguments, folder, log.with_suffix(".err"), prepare)


def serve() -> None:
    """Run each command that is read from stdin, and answer with its exit status."""
    importlib.import_module("torch")
    if "bare" not in sys.argv:
        import_everything()
    for line in sys.stdin:
        request = json.loads(line)
        words, folder = request["arguments"], Path(request["folder"])
        children = [fork(words, folder, process["environment"], Path(process["log"])) for process in request["processes"]]
        statuses = [child.wait() for child in children]
        sys.stdout.write(f"{next(filter(None, statuses), 0)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
