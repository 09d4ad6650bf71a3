"""Train the preset `fashion-mnist-gpu`, measure it by Inception FID as papers do, and time the CIFAR-10 network of Ho et al.

    pip install 'ddpm-cli[metrics,peers]'
    python examples/results/fashion_mnist_gpu.py                      # all parts, in this order
    python examples/results/fashion_mnist_gpu.py --part train curve   # some of them
    python examples/results/fashion_mnist_gpu.py --toy                # every part in small: 3 minutes of one core of a CPU

    train       one run of ten minutes with a checkpoint every 1,000 steps, and one of three, whose learning rate falls in that time
    curve       FID-50k of the long run's checkpoints after 1, 2, 3, 5, 7 and 10 minutes, and of the short run
    samplers    FID, KID, precision, recall and fcd of DDIM and DPM-Solver++ in 5, 10, 20 and 50 steps, 50,000 samples each
    likelihood  bits per dimension of the 10,000 test images; nearest training images of 10,000 samples
    ancestral   all 1000 steps of DDPM, and DPM-Solver++ in 20 with as many samples to compare with
    bench       images/s of the 35.7M CIFAR-10 network at 32x32 in bf16, beside diffusers' own loop, and of the preset's network

Everything is done by the `ddpm` command; its answers lie in OUT/figures, and what lies there is not done again. After each part
OUT/results.md, results.json and curve.png tell how far it is. A part that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fashion_mnist_gpu_report import write_report

LONG, SHORT = "long", "short"
SAMPLERS = ("ddim", "dpm-solver++")
USUAL = ("--sampler", "dpm-solver++", "--steps", "20")


@dataclass(frozen=True)
class Plan:
    """How large everything is.

    Attributes:
        train: Arguments of `ddpm train`, but for the budget.
        whole_set: Whether all 60,000 training images must be there.
        budgets: Arguments that bound the long and the short run.
        minutes: Of training, after which the long run is measured; the last are its budget.
        short: Minutes of the short run.
        n: Samples.
        steps: Of the samplers.
        metrics: Of the samplers' samples.
        curve_metrics: Of the samples along training.
        ancestral: Steps of DDPM's own sampler: all T of the schedule.
        ancestral_n: Samples of it.
        held_out: Arguments of `ddpm evaluate` for the likelihood, and for the nearest training images.
        batch_size: Samples at a time.
        bench: Arguments of `ddpm bench` by name.
    """

    train: tuple[str, ...]
    whole_set: bool
    budgets: dict[str, tuple[str, ...]]
    minutes: tuple[float, ...]
    short: float
    n: int
    steps: tuple[int, ...]
    metrics: str
    curve_metrics: str
    ancestral: int
    ancestral_n: int
    held_out: dict[str, tuple[str, ...]]
    batch_size: int
    bench: dict[str, tuple[str, ...]]


FULL = Plan(
    train=("--preset=fashion-mnist-gpu", "--set=checkpoint.every=1000", "--set=checkpoint.keep_last=1000"),
    whole_set=True,
    budgets={LONG: ("--minutes=10",), SHORT: ("--minutes=3",)},
    minutes=(1, 2, 3, 5, 7, 10),
    short=3,
    n=50_000,
    steps=(5, 10, 20, 50),
    metrics="fid,kid,precision-recall,fcd",
    curve_metrics="fid",
    ancestral=1000,
    ancestral_n=10_000,
    held_out={
        "likelihood": ("--metrics=bits-per-dim", "--n=10000", "--likelihood-steps=100"),
        "nearest": ("--metrics=nearest", "--n=10000", *USUAL),
    },
    batch_size=1024,
    bench={
        "cifar10": (
            "--preset=paper-cifar10",
            "--batch-sizes=128,256,512",
            "--precisions=bf16",
            "--against=diffusers",
            "--seconds=120",
        ),
        "fashion-mnist": ("--preset=fashion-mnist-gpu", "--batch-sizes=256,512", "--precisions=bf16", "--seconds=40"),
    },
)

TINY = ("--set=model.base_channels=8", "--set=model.channel_mult=[1,2]", "--set=model.blocks_per_level=1")
TINY += ("--set=model.attention_heads=1", "--set=model.attention_resolutions=[]", "--set=schedule.timesteps=100")
TOY = Plan(
    train=(
        "--preset=fashion-mnist-gpu",
        "--data=fashion-mnist-10k",
        *TINY,
        "--batch-size=16",
        "--set=data.limit=200",
        "--set=optimizer.warmup_steps=5",
        "--set=train.eval_images=16",
        "--set=train.log_every=5",
        "--set=checkpoint.every=10",
        "--set=checkpoint.keep_last=1000",
    ),
    whole_set=False,
    budgets={LONG: ("--minutes=0.3",), SHORT: ("--minutes=0.1",)},
    minutes=(0.1, 0.2, 0.3),
    short=0.1,
    n=32,
    steps=(2, 4),
    metrics=FULL.metrics,
    curve_metrics="fid",
    ancestral=100,
    ancestral_n=16,
    held_out={
        "likelihood": ("--metrics=bits-per-dim", "--n=16", "--likelihood-steps=5"),
        "nearest": ("--metrics=nearest", "--n=16", *USUAL),
    },
    batch_size=16,
    bench={"tiny": ("--preset=paper-cifar10", *TINY, "--batch-sizes=2", "--against=diffusers", "--seconds=4")},
)


@dataclass(frozen=True)
class Study:
    """A plan, and where it is carried out."""

    plan: Plan
    out: Path
    device: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()

    @property
    def runs(self) -> Path:
        return self.out / "runs"

    def ask(self, name: str, *arguments: str, **facts: Any) -> None:
        """Have a command answer in JSON, unless its answer is there; keep it with the command and what is known of it."""
        path = self.out / "figures" / f"{name}.json"
        if path.exists():
            return
        command = (*arguments, *self.device)
        answer = json.loads(ddpm(*command, "--json"))
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        unfinished.write_text(json.dumps(facts | {"command": shown(command), "answer": answer}, indent=1), encoding="utf-8")
        unfinished.replace(path)

    def evaluate(self, name: str, model: Path, *arguments: str, **facts: Any) -> None:
        size = f"--batch-size={self.plan.batch_size}"
        self.ask(name, "evaluate", str(model), *arguments, size, *self.weights, **facts)


# --------------------------------------------------------------------------------------------------------------- parts


def train(study: Study) -> None:
    if study.plan.whole_set:
        require_whole_set()
    study.runs.mkdir(parents=True, exist_ok=True)
    for name, budget in study.plan.budgets.items():
        if (study.runs / name).exists():
            ddpm("resume", str(study.runs / name), *study.device)
        else:
            ddpm("train", *study.plan.train, *budget, f"--name={name}", f"--out={study.runs}", *study.device)


def require_whole_set() -> None:
    """Without it training would go on with the images of the package, and the figures be of those."""
    from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist

    if load_fashion_mnist(None).name != "fashion-mnist":
        raise SystemExit("The full Fashion-MNIST was not found: put its four files into ~/.cache/ddpm, or into DDPM_CACHE.")


def curve(study: Study) -> None:
    plan = study.plan
    wanted = [(LONG, *point) for point in checkpoints_after(study.runs / LONG, plan.minutes)]
    wanted.append((SHORT, plan.short, *checkpoints(study.runs / SHORT)[-1]))
    for run, after, minutes, checkpoint in wanted:
        asked = (f"--metrics={plan.curve_metrics}", f"--n={plan.n}", *USUAL)
        study.evaluate(f"curve-{run}-{checkpoint.name}", checkpoint, *asked, run=run, after=after, minutes=minutes)


def samplers(study: Study) -> None:
    plan = study.plan
    for steps in sorted(plan.steps, reverse=True):
        for sampler in SAMPLERS:
            sample(study, sampler, steps, plan.n)


def ancestral(study: Study) -> None:
    plan = study.plan
    sample(study, "ddpm", plan.ancestral, plan.ancestral_n)
    sample(study, "dpm-solver++", max(steps for steps in plan.steps if steps <= 20), plan.ancestral_n)


def likelihood(study: Study) -> None:
    for name, arguments in study.plan.held_out.items():
        study.evaluate(f"held-out-{name}", study.runs / LONG, *arguments)


def bench(study: Study) -> None:
    for name, arguments in study.plan.bench.items():
        study.ask(f"bench-{name}", "bench", *arguments)


PARTS: dict[str, Callable[[Study], None]] = {
    "train": train,
    "curve": curve,
    "samplers": samplers,
    "likelihood": likelihood,
    "ancestral": ancestral,
    "bench": bench,
}


def sample(study: Study, sampler: str, steps: int, n: int) -> None:
    asked = (f"--metrics={study.plan.metrics}", f"--n={n}", f"--sampler={sampler}", f"--steps={steps}")
    study.evaluate(f"samples-{sampler}-{steps}-{n}", study.runs / LONG, *asked)


def checkpoints(run: Path) -> list[tuple[float, Path]]:
    """The checkpoints of a run in their order, each with its minutes of training."""
    folders = sorted(run.glob("checkpoints/step-*[0-9]"))
    if not folders:
        raise SystemExit(f"{run} has no checkpoint yet: --part train makes them.")
    return [(json.loads((folder / "state.json").read_text(encoding="utf-8"))["seconds"] / 60, folder) for folder in folders]


def checkpoints_after(run: Path, minutes: tuple[float, ...]) -> list[tuple[float, float, Path]]:
    """For each of some times the last checkpoint until then, each checkpoint once: the time, its minutes of training, its folder.

    For the last time it is the run's last checkpoint, which is written after its last samples.
    """
    *known, last = checkpoints(run)
    found: dict[Path, tuple[float, float, Path]] = {}
    for limit in minutes[:-1]:
        for at, folder in [point for point in known if point[0] <= limit][-1:]:
            found.setdefault(folder, (limit, at, folder))
    return [*found.values(), (minutes[-1], *last)]


# ------------------------------------------------------------------------------------------------------------ commands


def shown(arguments: tuple[str, ...]) -> str:
    return shlex.join(("ddpm", *arguments))


def ddpm(*arguments: str) -> str:
    """Run the command and return what it says on stdout.

    Ctrl-C reaches it by itself and SIGTERM is handed on; it saves what it has before it ends, and this waits for it.
    """
    print(f"$ {shown(arguments)}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "ddpm_cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            answer, _ = process.communicate()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if process.returncode:
        raise SystemExit(process.returncode if process.returncode > 0 else 128 - process.returncode)
    return answer


def study_from(arguments: list[str] | None = None) -> tuple[Study, list[str]]:
    """What the command line asks for, and which parts of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), help="all if left out")
    parser.add_argument("--out", type=Path, help="folder of runs and results; runs/fashion-mnist-gpu if left out")
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--extractor-weights", type=Path, help="Inception's weights as .safetensors; downloaded if left out")
    parser.add_argument("--ancestral-n", type=int, help="samples of the 1000-step sampler; 10,000 if left out")
    parser.add_argument("--toy", action="store_true", help="everything in small, to see that it works")
    options = parser.parse_args(arguments)
    plan = TOY if options.toy else FULL
    if options.ancestral_n:
        plan = replace(plan, ancestral_n=options.ancestral_n)
    study = Study(
        plan,
        options.out or Path("runs", "fashion-mnist-gpu-toy" if options.toy else "fashion-mnist-gpu"),
        (f"--device={options.device}",) if options.device else (),
        (f"--extractor-weights={options.extractor_weights}",) if options.extractor_weights else (),
    )
    return study, options.part


def main() -> None:
    study, parts = study_from()
    for part in parts:
        PARTS[part](study)
        write_report(study.out, study.plan.n)
    print(study.out / "results.md")


if __name__ == "__main__":
    main()
