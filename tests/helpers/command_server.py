"""The command, as often as it is asked for, by one process that has imported everything; see forked.py.

The server is a process of its own, because those that run tests have threads and torch operations behind them, and a fork of them
might wait for a lock for ever.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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
    "scipy.linalg",
    "tensorboard.summary.writer.event_file_writer",
    "torch._dynamo",
    "torch.export",
    "torch.onnx",
    "torch.utils.tensorboard",
    "torch_fidelity",
    "torchvision",
)


class Server:
    """Runs commands.

    Args:
        process: That executes this file.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, arguments: Sequence[str], folder: Path, logs: Path) -> subprocess.CompletedProcess[str]:
        """`ddpm ARGUMENTS` in `folder`; what it says passes through files in `logs`."""
        out, err = logs / "stdout", logs / "stderr"
        request = {"arguments": list(arguments), "folder": str(folder), "out": str(out), "err": str(err)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        status = int(self._process.stdout.readline())
        return subprocess.CompletedProcess(["ddpm", *arguments], status, out.read_text(), err.read_text())


@contextmanager
def command_server(**variables: str) -> Iterator[Server]:
    """A server with these variables in its environment."""
    environment = os.environ | {"COLUMNS": "100", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} | variables
    command = [sys.executable, __file__]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        yield Server(process)


def serve() -> None:
    """Run each command that is read from stdin, and answer with its exit status."""
    from forked import Speaker, fork_command

    for module in MODULES:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)

        def redirect(_: Speaker, out: str = request["out"]) -> None:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            signal.alarm(MOST_SECONDS)

        child = fork_command(request["arguments"], Path(request["folder"]), Path(request["err"]), redirect)
        sys.stdout.write(f"{child.wait()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
