"""Every command line that README.md and the help of the commands show does what it says, at a size that takes a moment."""

from __future__ import annotations

import ast
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import reader_folder
from command import environment, run_ddpm
from command_lines import README, Line, all_lines, helps, in_help, in_readme, line_of
from launchers import handed_on, parse

# What makes a command quick; of an option that is given twice the last counts.
APPENDED: dict[str, Sequence[str]] = {
    "train": (*reader_folder.TOY_TRAINING, "--steps=2"),
    "resume": ("--steps=4",),
    "sample": ("--steps=2",),
    "interpolate": ("--steps=2",),
    "inpaint": ("--steps=4", "--resample=2", "--jump=2"),
    "img2img": ("--steps=4",),
    "evaluate": ("--n=4", "--extractor-weights=inception.safetensors"),
    "bench": ("--seconds=0.05", "--batch-sizes=2", "--set=model.base_channels=8", "--set=model.norm_groups=4"),
    "compare": (),
    "ema": (),
    "sweep": (),
    "tune-sampler": ("--steps=2", "--n=2"),
    "distill": ("--steps=2",),
    "speedrun": ("--dry-run",),  # a quarter of an hour otherwise
    "report": (),
    "export": (),
    "import": (),
    "inspect-schedule": (),
    "ls": (),
    "info": (),
    "doctor": (),
    "config": (),
    "data": (),
}
# Where a whole line has to be told apart.
APPENDED_TO_LINE: dict[str, Sequence[str]] = {
    "ddpm export runs/quick-001 --tuned 8 --out fast.safetensors": ("--tuned=2",),
    "ddpm sample runs/quick-001 --guide-with @1000 --guide-scale 1.5": ("--guide-with=@1", "--steps=2"),
    "ddpm sample quick-001 --guide-with @1000 --guide-scale 1.5 --out guided.png": ("--guide-with=@1", "--steps=2"),
    "ddpm evaluate quick-001 --guide-with @1000 --guide-scale 1.5": ("--guide-with=@1", *APPENDED["evaluate"]),
    "ddpm ema runs/quick-001 --width 0.1 --step 2000 --out early.safetensors": ("--step=1",),
    "ddpm sample first --n 50000 --npz samples.npz": ("--n=4", "--steps=2"),
    "ddpm sample runs/quick-001 --n 50000 --npz samples.npz": ("--n=4", "--steps=2"),
    "ddpm sweep examples/experiments/quick-recipe/final.toml": ("--dry-run",),  # an hour otherwise
}
# Lines that start several processes and are run, with what makes them quick.
LAUNCHED: dict[str, Sequence[str]] = {
    "accelerate launch --multi_gpu --num_processes 2 -m ddpm_cli train": (*APPENDED["train"], "--device=cpu"),
    "torchrun --nproc-per-node 2 -m ddpm_cli evaluate first -n 50000 --metrics fid": (
        "-n4",
        "--extractor-weights=inception.safetensors",
    ),
}
# Lines that are not run, with the test that proves what they do.
BY_TORCHRUN = "cli/test_processes.py::test_a_killed_process_is_named_and_the_launcher_goes_on_with_the_run"
PROVEN_ELSEWHERE = {
    "torchrun --nproc-per-node 2 -m ddpm_cli train --preset quick": BY_TORCHRUN,
    "torchrun --nproc-per-node 2 --max-restarts 3 -m ddpm_cli train": BY_TORCHRUN,
    # It would write into the home of whoever tests.
    "ddpm --install-completion": "cli/parsing/test_completion.py::test_bash_is_offered_runs_without_torch",
    # It needs the package of examples/extending.
    "ddpm train --data stripes --set model=convnet --set schedule=exponential --set objective.loss=pseudo-huber --epochs 10": (
        "whole/test_extending.py::test_each_can_be_trained_resumed_sampled_and_exported"
    ),
    # Slurm is not at hand.
    "sbatch examples/slurm/train.sbatch --preset paper-cifar10 --name cifar": (
        "core/test_launch.py::test_the_slurm_script_is_sound_bash"
    ),
}
# Scripts that measure time, for minutes: they are looked at only.
TAKE_TOO_LONG = {
    "python examples/benchmarks/sampler_overhead.py",
    "python examples/benchmarks/start_up.py runs/quick-001",
}
LAUNCHERS = ("torchrun", "accelerate", "sbatch")
WRITTEN = ("--out", "--each", "--trajectory")
LINES = all_lines()


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


@pytest.fixture(scope="module")
def made(own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reader; tests must not change it."""
    folder = tmp_path_factory.mktemp("reader")
    reader_folder.make(folder, tmp_path_factory.mktemp("weights"))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "reader", symlinks=True)


def option(words: Sequence[str], *names: str) -> str | None:
    """What stands behind one of these options."""
    return next((value for name, value in pairwise(words) if name in names), None)


def toy(line: Line) -> list[str]:
    """The arguments of `ddpm` at a size that takes a moment, on a device that every machine has."""
    command, *_ = words = line.words[1:]
    assert command in APPENDED, f"{Path(__file__).name} must say how `ddpm {command}` is made quick"
    appended = [*APPENDED_TO_LINE.get(str(line), APPENDED[command])]
    if command == "train" and "--data" in words:
        appended = [flag for flag in appended if not flag.startswith("--set=data.")]
    return ["cpu" if word in ("mps", "cuda") else word for word in words] + appended


def remove_what_it_makes(words: Sequence[str], folder: Path) -> None:
    """What the folder has for other commands, and this one would not make again."""
    if words[0] in ("train", "distill", "import") and (name := option(words, "--name")):
        shutil.rmtree(folder / "runs" / name, ignore_errors=True)
    if words[:2] == ("config", "init"):
        (folder / "recipe.toml").unlink()


def assert_done(line: Line, done: subprocess.CompletedProcess[str], folder: Path) -> None:
    """It ended well, had nothing to complain of, and has written all that the line names."""
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning:" not in done.stderr
    if "--json" in line.words:
        assert isinstance(json.loads(done.stdout), dict)
    if line.stdout:
        assert done.stdout
    for path in filter(None, (option(line.words, name) for name in WRITTEN)):
        written = folder / path
        assert any(written.iterdir()) if written.is_dir() else written.stat().st_size > 0


def of(*programs: str) -> pytest.MarkDecorator:
    lines = [line for line in LINES if line.words[0] in programs and str(line) not in PROVEN_ELSEWHERE]
    return pytest.mark.parametrize("line", lines, ids=str)


@of("ddpm")
def test_the_command_does_what_it_says(line: Line, folder: Path) -> None:
    remove_what_it_makes(line.words[1:], folder)
    assert_done(line, run_ddpm(*toy(line), cwd=folder), folder)


@of(*LAUNCHERS)
def test_the_launcher_starts_the_command(line: Line, folder: Path) -> None:
    assert str(line) in LAUNCHED, f"{Path(__file__).name} must say how this line is proven"
    launcher, *words = line.words
    command = [str(Path(sys.executable).with_name(launcher)), *words, *LAUNCHED[str(line)]]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=240, check=False)
    assert_done(line, done, folder)


@of("python")
def test_the_script_is_there(line: Line) -> None:
    assert str(line) in TAKE_TOO_LONG, f"{Path(__file__).name} must say how this line is proven"
    script = README.parent / line.words[1]
    compile(script.read_text(encoding="utf-8"), script, "exec")


@pytest.mark.parametrize("line", PROVEN_ELSEWHERE)
def test_another_test_proves_it_and_its_options_exist(line: str) -> None:
    file, function = PROVEN_ELSEWHERE[line].split("::")
    tree = ast.parse((README.parent / "tests" / file).read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    words = shlex.split(line)
    if words[0] in LAUNCHERS:
        parse(handed_on(words))


def test_every_line_is_of_a_program_that_is_run_here() -> None:
    assert {line.words[0] for line in LINES} == {"ddpm", "python", *LAUNCHERS}


def test_no_line_is_prepared_for_that_nobody_shows() -> None:
    shown = set(map(str, LINES))
    assert shown >= PROVEN_ELSEWHERE.keys() | LAUNCHED.keys() | APPENDED_TO_LINE.keys() | TAKE_TOO_LONG
    assert {line.words[1] for line in LINES if line.words[0] == "ddpm"} >= APPENDED.keys()


def test_every_command_has_examples_of_itself() -> None:
    for name, text in helps().items():
        assert "For example:" in text, name
        examples = text.split("For example:")[1]
        for paragraph in filter(str.strip, examples.split("\n\n")):
            assert paragraph.split()[: len(name.split())] == name.split(), paragraph


def test_lines_are_found_in_blocks_in_sentences_and_in_helps() -> None:
    block = "```bash\npip install . && ddpm train \\\n  --lr 1 # quickly\n# nothing\nddpm ls > runs.txt\n```\n"
    found = in_readme(f"{block}`ddpm` and `ddpm\ninfo [RUN]`, `A_B=1 torchrun x`, `A_B=1` as `--set a`\n```toml\na = 1\n```\n")
    lines = [line for line in map(line_of, found) if line is not None]
    assert list(map(str, lines)) == ["ddpm train --lr 1", "ddpm ls > runs.txt", "ddpm info", "torchrun x"]
    assert in_help("Does, see `ddpm ls runs`.\n\nFor example:\n\n  ddpm a --b\n    c\n\n  ddpm d\n") == [
        "ddpm a --b c",
        "ddpm d",
        "ddpm ls runs",
    ]
    with pytest.raises(ValueError, match="console"):
        in_readme("```console\n$ ddpm ls\n```\n")


def test_a_command_that_nobody_prepared_for_fails() -> None:
    with pytest.raises(AssertionError, match="ddpm fly"):
        toy(Line(("ddpm", "fly", "--high")))
