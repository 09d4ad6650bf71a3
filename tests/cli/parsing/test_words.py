"""Words that a command was not made for are answered with what was meant."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command import Ddpm
from fake_runs import fake_run

from ddpm_cli import __version__
from ddpm_cli.cli.app import app
from ddpm_cli.cli.config_commands import config_app
from ddpm_cli.cli.data_commands import data_app
from ddpm_cli.cli.parsing.commands import NO_COMMANDS, OTHER_NAMES, Command
from ddpm_cli.core.names import plain


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """With a run, a folder and a file."""
    fake_run(tmp_path / "runs", "mine-001", checkpoint=False)
    fake_run(tmp_path / "runs", "xtrunc", checkpoint=False)
    (tmp_path / "photos").mkdir()
    (tmp_path / "pixels.npz").write_bytes(b"")
    return tmp_path


STRAY = [
    ("train quick", "train takes no 'quick' by itself. Write --preset quick."),
    ("train QUICK", "Write --preset quick."),
    ("train recipe.toml", "Write --config recipe.toml."),
    ("train fashionmnist", "Write --data fashion-mnist."),
    ("train photos", "Write --data photos."),
    ("train pixels.npz", "Write --data pixels.npz."),
    ("train mine-001", "It is a run; go on with it by: ddpm resume mine-001"),
    ("train cosine", "Write --set schedule=cosine."),
    ("train optimizer.lr=1e-3", "Write --set optimizer.lr=1e-3."),
    ("train cuda:0", "Write --device cuda:0."),
    ("train 64x48", "Write --size 64x48."),
    ("train –preset quick", "Its dash is not a hyphen. Write --preset."),
    ("train preset=quick", "Write --preset quick."),
    ("train data=cifar10", "Write --data cifar10."),
    ("train epochs=3", "Write --epochs 3."),
    ("train batch-size=4", "Write --batch-size 4."),
    ("train learning_rate=1e-3", "Write --lr 1e-3."),
    ("train dry_run=true", "Write --dry-run."),
    ("sample steps=5", "'steps=5' is no run. Write --steps 5."),
    ("train help", "train takes no 'help' by itself. Write --help."),
    ("sample help", "Write --help."),
    ("train --sampler DIM", "No such option: --sampler. Write --set train.sampler=..."),
    ("import pixels.npz", "pixels.npz is no file of torch.save."),
    ("report pixels.npz", "pixels.npz is a file, and what is needed here is a run"),
    ("sample run\udcff", "There are: xtrunc, mine-001."),
    ("train --set b\udce9d=3 --dry-run", '"b\\xe9d" is no key: it is not UTF-8 text'),
    ("train --set train.batch_size=auto --dry-run", "write --batch-size auto instead"),
    ("sample mine-001 --seeds 0-1999999", "holds more than 1,000,000 seeds"),
    ("sample mine-001 --label ALL --nrow 2", "--nrow has no place beside --label all"),
    ("sample mine-001 --seeds 9-3", "runs backwards. Put the smaller first: 3-9."),
    ("train nonsense", "train takes options alone"),
    ("train -preset quick", "-preset has one dash, which stands before options of one letter. Write --preset quick."),
    ("train -data=mnist", "Write --data=mnist."),
    ("train -dta mnist", "Write --data mnist."),
    ("sample -seed 3", "Write --seed 3."),
    ("sample -json", "Write --json."),
    ("bench quick", "Write --preset quick."),
    ("bench diffusers", "Write --against diffusers."),
    ("config show quick", "Write --preset quick."),
    ("doctor mine-001", "It is a run."),
    ("img2img a.png mine-001", "Write --run mine-001."),
    ("img2img a.png ddim", "Write --sampler ddim."),
    ("sample ddim", "'ddim' is no run. Write --sampler ddim."),
    ("sample grid.png", "Write --out grid.png."),
    ("sample mine-001 heun", "Write --sampler heun."),
    ("sample mine-001 tuned", "Write --sampler tuned."),
    ("evaluate kid", "'kid' is no run. Write --metrics kid."),
    ("export onnx", "'onnx' is no run. Write --format onnx."),
    ("resume optimizer.lr=1e-4", "Write --set optimizer.lr=1e-4."),
    ("inspect-schedule cosine", "'cosine' is no run. Write --kind cosine."),
    ("train --learning-rate 1e-3", "No such option: --learning-rate. It is called --lr here."),
    ("train --bs 8", "It is called --batch-size here."),
    ("train --num_epochs 8", "It is called --epochs here."),
    ("train --beta-end 0.03", "Write --set schedule.beta_end=..."),
    ("sample --num-inference-steps 8", "It is called --steps here."),
    ("generate", "No such command 'generate'. Did you mean 'sample'?"),
    ("draw", "Did you mean 'sample'?"),
    ("fit", "Did you mean 'train'?"),
    ("continue", "Did you mean 'resume'?"),
    ("score", "Did you mean 'evaluate'?"),
    ("convert", "Did you mean 'export'?"),
    ("show mine-001", "Did you mean 'info'?"),
    ("datasets", "Did you mean 'ls datasets'?"),
    ("delete mine-001", "there is no command that deletes"),
    ("smaple", "Did you mean 'sample'?"),
    ("xyzzy", "There are: train, sample, "),
    ("config shwo", "Did you mean 'show'?"),
    ("config generate", "There are: show, init, diff."),
]


@pytest.mark.parametrize(("line", "said"), STRAY, ids=[line for line, _ in STRAY])
def test_a_word_in_the_wrong_place_is_told_how_it_is_written(line: str, said: str, place: Path, ddpm_here: Ddpm) -> None:
    done = ddpm_here(*line.split(), cwd=place)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())


def test_options_of_one_letter_may_have_their_value_attached(place: Path, ddpm_here: Ddpm) -> None:
    assert json.loads(ddpm_here("inspect-schedule", "-T12", "-kcosine", "--json", cwd=place).stdout)["timesteps"] == 12
    assert "There is no preset" not in ddpm_here("config", "show", "-pquick", cwd=place).stderr


SPELT = [
    ("evaluate nowhere --metrics FCD,Bits_Per_Dim --variance Fixed_Small --reference TEST --device CPU", "no run 'nowhere'"),
    ("export nowhere --format Torch_Export", "no run 'nowhere'"),
    ("train --preset Quick --data Fashion_MNIST_10k --batch-size AUTO --device CPU --name good", "already a run runs/good"),
    ("bench --preset QUICK --against Diffusers --precisions FP32 --device gpu", "is no device"),
    ("config diff Quick nowhere", "no run 'nowhere'"),
    ("sample nowhere --device CUDA-0", "is no device"),
]


@pytest.mark.parametrize(("line", "said"), SPELT, ids=[line.split()[0] for line, _ in SPELT])
def test_options_take_names_however_they_are_spelt(line: str, said: str, place: Path, ddpm_here: Ddpm) -> None:
    fake_run(place / "runs", "good", checkpoint=False)
    done = ddpm_here(*line.split(), cwd=place)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())


def test_schedules_are_named_however_they_are_spelt(place: Path, ddpm_here: Ddpm) -> None:
    for spelt in ("--kind=COSINE", "--compare=Cosine,scaled_linear"):
        found = json.loads(ddpm_here("inspect-schedule", spelt, "--json", cwd=place).stdout)
        assert "cosine" in json.dumps(found)
        assert not {"COSINE", "Cosine", "scaled_linear"} & {*json.dumps(found).split('"')}


def test_help_version_and_list_answer(place: Path, ddpm_here: Ddpm) -> None:
    assert ddpm_here("version", cwd=place).stdout == f"ddpm {__version__}\n"
    for said, same in (
        ("help", "--help"),
        ("help train", "train --help"),
        ("help config show", "config show --help"),
        ("help list", "ls --help"),
        ("list", "ls"),
        ("list presets --json", "ls presets --json"),
        ("LS Presets --json", "ls presets --json"),
        ("inspect_schedule --json", "inspect-schedule --json"),
    ):
        ours, theirs = (ddpm_here(*line.split(), cwd=place) for line in (said, same))
        texts = [re.sub(r"\d+ s$", "", done.stdout.replace("LS", "ls"), flags=re.MULTILINE) for done in (ours, theirs)]  # ages
        assert (ours.returncode, texts[0]) == (0, texts[1])
        assert ours.stdout


def test_every_command_answers_like_this() -> None:
    for group in (app, config_app, data_app):
        for command in group.registered_commands:
            assert command.cls is not None
            assert issubclass(command.cls, Command), command.name


def test_other_names_are_of_commands_that_are_and_of_one_each() -> None:
    names = [command.name for command in app.registered_commands]
    others = [plain(other) for words in OTHER_NAMES.values() for other in words.split()]
    assert len(others) == len(set(others))
    assert {ours.split()[0] for ours in OTHER_NAMES} <= {*names, "config", "data"}
    assert not {*others, *NO_COMMANDS} & {*map(str, names)}
