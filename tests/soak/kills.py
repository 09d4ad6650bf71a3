"""Kill training 200 times at random instants and resume it each time: nothing that was announced may be lost.

python tests/soak/kills.py [KILLS] [SEED]     200 kills from seed 0, 10 to 20 minutes on a core

Each kill is a SIGKILL at a seeded random instant: a phase (starting, training, sampling, writing a checkpoint), how
often that phase is let pass before, and how far into it. The killed commands are forked from a process that has torch imported (see
helpers/forked.py for why that is the same); every tenth is a process of its own, `python -m ddpm_cli resume`, killed after a random
number of seconds. A child tells its phase by one byte in a pipe, written by wrappers around the functions that train, sample
and save.

After each kill: the newest checkpoint is whole, and no older than the last that the command had announced on its stderr. After each
resume, before its first step: no temporary file is left, and metrics.jsonl has each step up to the checkpoint once, in whole lines.
At the end: model, ema and optimizer have the bits of a run that was never stopped, and the log has its losses.
"""

from __future__ import annotations

import functools
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from command import TINY, environment
from forked import Child, Speaker, fork_command, wrap_everywhere
from safetensors.numpy import load_file

from ddpm_cli.core.io.temporaries import TEMPORARY_PREFIX
from ddpm_cli.render.pictures.images import save_grid
from ddpm_cli.runs.checkpoints import has_checkpoint, latest_checkpoint, save_checkpoint
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.generate import generate_samples
from ddpm_cli.training.trainer import Trainer

STEPS = 1600
ARGUMENTS = (
    *TINY,
    f"--steps={STEPS}",
    "--name=run",
    "--set=train.log_every=1",
    "--set=train.sample_every=3",
    "--set=train.sampler.steps=8",
    "--set=checkpoint.every=5",
    "--set=checkpoint.keep_last=1",
)
STARTING, TRAINING, SAMPLING, WRITING, LOOKED_AT = b"0", b"t", b"s", b"w", b"?"
NAMES = {STARTING: "starting", TRAINING: "training", SAMPLING: "sampling", WRITING: "writing a checkpoint"}
LARGEST_TURN = {STARTING: 1, TRAINING: 15, SAMPLING: 4, WRITING: 3}
SHARE = {STARTING: 3, TRAINING: 5, SAMPLING: 8, WRITING: 6}
ANNOUNCED = re.compile(r"checkpoint at step ([\d,]+):")
TIMES = {"seconds", "images_per_second"}


# ------------------------------------------------------------------------------------------------------------ in the child


def tell_phases(speaker: Speaker) -> None:
    """Have the command say when it begins to train, sample and write; before its first step it waits to be looked at."""
    take_step = Trainer.train_step
    first = True

    def step(trainer: Trainer) -> None:
        nonlocal first
        if first:
            speaker.say(LOOKED_AT)
            speaker.wait_for_parent()
            first = False
        speaker.say(TRAINING)
        take_step(trainer)

    Trainer.train_step = step  # type: ignore[method-assign]  # a test's wrapper
    wrap_everywhere(save_checkpoint, _telling(save_checkpoint, speaker, WRITING))
    wrap_everywhere(save_grid, _telling(save_grid, speaker, SAMPLING))

    @functools.wraps(generate_samples)
    def sample(*arguments: Any, **named: Any) -> Iterator[Any]:
        speaker.say(SAMPLING)
        yield from generate_samples(*arguments, **named)
        speaker.say(TRAINING)

    wrap_everywhere(generate_samples, sample)


def _telling(function: Callable[..., Any], speaker: Speaker, phase: bytes) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        speaker.say(phase)
        result = function(*arguments, **named)
        speaker.say(TRAINING)
        return result

    return call


# ----------------------------------------------------------------------------------------------------------- in the parent


@dataclass
class Soak:
    """The run, what is known of it, and how long phases last."""

    folder: Path
    draws: random.Random
    announced: int = 0
    killed_in: Counter[str] = field(default_factory=Counter)
    resumed_from: Counter[str] = field(default_factory=Counter)
    seconds: dict[bytes, float] = field(default_factory=lambda: {STARTING: 1.0, TRAINING: 0.02, SAMPLING: 0.02, WRITING: 0.02})

    @property
    def run(self) -> RunDirectory:
        """The run that is killed again and again."""
        return RunDirectory(self.folder / "runs" / "run")

    @property
    def log(self) -> Path:
        """What the command at work has written to its terminal."""
        return self.folder / "log"

    def command(self) -> list[str]:
        """`train` until there is a run, `resume` from then on."""
        if self.run.info_path.exists():
            self.resumed_from["a checkpoint" if has_checkpoint(self.run) else "the beginning"] += 1
            return ["resume", "run"]
        shutil.rmtree(self.run.path, ignore_errors=True)
        return ["train", *ARGUMENTS]

    def kill_forked(self) -> None:
        """Start the command, let it come to a drawn instant, and kill it."""
        phase = self.draws.choices(list(SHARE), list(SHARE.values()))[0]
        turn, part = self.draws.randint(1, LARGEST_TURN[phase]), self.draws.random()
        child = fork_command(self.command(), self.folder, self.log, tell_phases)
        self._follow(child, phase, turn)
        time.sleep(part * self.seconds[phase])
        status = child.kill()
        require(status == -9, f"the command ended by itself with {status}: {self.log.read_text()}")
        last = child.said[-1:] or STARTING
        self.killed_in[NAMES[STARTING if last == LOOKED_AT else last]] += 1

    def _follow(self, child: Child, phase: bytes, turn: int) -> None:
        """Until `phase` has begun for the `turn`-th time; the lengths of phases are measured on the way."""
        current, since = STARTING, time.monotonic()
        seen = 1 if phase == STARTING else 0
        while not (current == phase and seen >= turn):
            heard = child.hear(120)
            require(bool(heard), f"the command was silent for too long or ended: {self.log.read_text()}")
            for letter in (bytes([value]) for value in heard):
                now = time.monotonic()
                self.seconds[current] += 0.2 * (now - since - self.seconds[current])
                since = now
                if letter == LOOKED_AT:
                    self.look_after_resume()
                    child.let_go_on()
                    continue
                current = letter
                seen += current == phase

    def kill_process(self) -> None:
        """Kill a process of its own after a random time."""
        with open(self.log, "wb") as output:
            command = [sys.executable, "-m", "ddpm_cli", *self.command()]
            process = subprocess.Popen(command, cwd=self.folder, env=environment(), stdout=output, stderr=output)
            time.sleep(self.draws.uniform(0.5, 8))
            process.kill()
            require(process.wait() == -9, f"the command ended by itself: {self.log.read_text()}")
        self.killed_in["in a process of its own"] += 1

    def look_after_kill(self) -> None:
        """What was announced is there, and whole."""
        steps = [int(found.replace(",", "")) for found in ANNOUNCED.findall(self.log.read_text())]
        self.announced = max([self.announced, *steps])
        if self.announced:
            latest = latest_checkpoint(self.run)
            require(latest.skipped == (), f"a damaged checkpoint: {latest.skipped}")
            require(latest.step >= self.announced, f"step {self.announced} was announced, {latest.step} is there")

    def look_after_resume(self) -> None:
        """No temporary file; each step up to the checkpoint once."""
        left = [str(path) for path in self.run.path.rglob(f"{TEMPORARY_PREFIX}*")]
        require(not left, f"temporary files survived: {left}")
        step = latest_checkpoint(self.run).step if has_checkpoint(self.run) else 0
        rows = read_log(self.run)
        require([row["step"] for row in rows] == list(range(1, step + 1)), f"the log does not fit step {step}: {rows[-3:]}")


def read_log(run: RunDirectory) -> list[dict[str, Any]]:
    """All rows; a torn line is an error."""
    text = run.metrics_log.read_text() if run.metrics_log.exists() else ""
    require(text == "" or text.endswith("\n"), "the log's last line is torn")
    return [json.loads(line) for line in text.splitlines()]


def require(condition: bool, message: str) -> None:
    """Stop the proof if something does not hold."""
    if not condition:
        raise AssertionError(message)


def bits(run: RunDirectory) -> dict[str, bytes]:
    """Every tensor of the newest checkpoint."""
    path = latest_checkpoint(run).path
    groups = sorted(file.stem for file in path.glob("*.safetensors"))
    return {
        f"{group}/{key}": value.tobytes() for group in groups for key, value in load_file(path / f"{group}.safetensors").items()
    }


def finish(arguments: list[str], folder: Path) -> RunDirectory:
    """Let a command run to its end."""
    folder.mkdir(exist_ok=True)
    child = fork_command(arguments, folder, folder / "log")
    status = child.wait()
    require(status == 0, f"exit status {status}: {(folder / 'log').read_text()}")
    return RunDirectory(folder / "runs" / "run")


def main() -> int:
    """Kill, resume, compare; the exit status is 1 if anything was lost."""
    kills, seed = (int(text) for text in [*sys.argv[1:], *("200", "0")[len(sys.argv) - 1 :]])
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        folder = Path(name)
        soak = Soak(folder / "killed", random.Random(seed))
        soak.folder.mkdir()
        for number in range(1, kills + 1):
            soak.kill_process() if number % 10 == 0 else soak.kill_forked()
            soak.look_after_kill()
            if number % 20 == 0:
                print(f"{number} kills, {time.monotonic() - started:.0f} s, step {soak.announced}", flush=True)
        before = soak.announced
        killed = finish(soak.command(), soak.folder)
        whole = finish(["train", *ARGUMENTS], folder / "whole")
        require(bits(killed) == bits(whole), "the weights differ from those of the uninterrupted run")
        logs = [[{k: v for k, v in row.items() if k not in TIMES} for row in read_log(run)] for run in (killed, whole)]
        require(logs[0] == logs[1], "the logged rows differ from those of the uninterrupted run")
        require(not list(killed.path.rglob(f"{TEMPORARY_PREFIX}*")), "temporary files are left")
        tensors = len(bits(whole))
    print(f"{kills} kills: {', '.join(f'{count} {phase}' for phase, count in sorted(soak.killed_in.items()))}")
    print(f"resumed from: {', '.join(f'{what} {count} times' for what, count in soak.resumed_from.items())}")
    print(f"lost checkpoints: 0; the last kill was after step {before:,} of {STEPS:,}")
    print(
        f"equal to the uninterrupted run: all bits of {tensors} tensors of model, ema and optimizer, {len(logs[0]):,} logged rows"
    )
    print(f"seed {seed}, {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
