"""Several processes of the command, as torchrun starts them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from command import TINY, environment
from command_server import the_server
from safetensors.numpy import load_file

# Without dropout, whose noise each process draws for itself.
ARGUMENTS = (*TINY, "--set=model.dropout=0", "--set=train.log_every=1", "--set=schedule.timesteps=50", "--device=cpu")
GROUPS = ("model", "ema", "optimizer")

# Read by each process at its start: one of them ends itself when a file appears, at the first attempt only.
KILL_ONE = """
import os, signal, threading, time
if os.environ.get("RANK") == os.environ["KILL_RANK"] and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
    def end():
        while not os.path.exists(os.environ["KILL_AT"]):
            time.sleep(0.005)
        os.write(2, f"killed at {time.time()};".encode())
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=end, daemon=True).start()
"""


def torchrun(*arguments: str, cwd: Path, options: Sequence[str] = (), **variables: str) -> subprocess.CompletedProcess[str]:
    """The command in two processes of one machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *options]
    command = [*launcher, "-m", "ddpm_cli", *arguments]
    variables = environment() | variables
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=240, check=False)


def two_processes(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same with the variables that torchrun sets, without torchrun and the seconds in which each process imports torch."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    ranks = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    return the_server().run(arguments, cwd, environment(), ranks)


def killing(rank: int, at: Path, folder: Path) -> dict[str, str]:
    """The environment in which process `rank` is killed, once, when `at` appears; `folder` is for a file of this."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(KILL_ONE)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, "KILL_RANK": str(rank), "KILL_AT": str(at)}


def rows_of(run: Path) -> list[dict[str, Any]]:
    """metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> dict[int, float]:
    """The loss of each logged step; none may be there twice."""
    rows = rows_of(run)
    found = {row["step"]: row["loss"] for row in rows}
    assert len(found) == len(rows)
    return found


def largest_difference(first: Path, second: Path) -> float:
    """Of the losses of two runs, which must have logged the same steps."""
    ones, others = losses(first), losses(second)
    assert ones.keys() == others.keys()
    return max(abs(ones[step] - others[step]) for step in ones)


def tensors(run: Path) -> dict[str, bytes]:
    """All bits of the newest checkpoint's model, averages and moments."""
    newest = max((run / "checkpoints").glob("step-*"))
    return {f"{group}/{k}": v.tobytes() for group in GROUPS for k, v in load_file(newest / f"{group}.safetensors").items()}
