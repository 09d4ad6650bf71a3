"""Readers of what strangers wrote, fed with seeded mutations of good samples; see tests/soak/fuzz.py for the long run."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import sys
import tomllib
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from picture_files import display_p3, linear_grey, srgb
from PIL import Image
from tiny_configs import NETWORK, as_sets

from ddpm_cli.build.network import build_model
from ddpm_cli.config.resolve.loader import from_toml_text, load_config
from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.config.schema.config import Config
from ddpm_cli.core.io.beta_table import read_schedule_table
from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.data.pictures.classes import find_class
from ddpm_cli.data.pictures.decode import decode, decode_deep, quiet_decoders, read_header, read_levels, read_whole
from ddpm_cli.data.pictures.resizing import Wanted
from ddpm_cli.data.sources.folder import read_file
from ddpm_cli.errors import DdpmError
from ddpm_cli.runs.checkpoints import load_checkpoint, save_checkpoint
from ddpm_cli.runs.directory import create_run
from ddpm_cli.runs.model_file import save_model_file
from ddpm_cli.sampling.bounds import Demand, image_bytes, require_affordable, require_trainable
from ddpm_cli.sampling.file_bounds import Bounds
from ddpm_cli.sampling.generate import generate_samples, load_trained
from ddpm_cli.sampling.trained_model import TrainedModel
from ddpm_cli.training.planning.plan import require_affordable_samples

LIMIT_SECONDS = 5
SETS = as_sets(NETWORK | {"model.base_channels": 4, "model.channel_mult": [1], "schedule.timesteps": 20})
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**31, 2**63, 10**30, 10**400, 1e308, float("nan"), float("inf"), "", "x", "\x1b[2J", "../../x"),
    *("/etc/passwd", "a" * 10_000, [], {}, [[]], [0] * 1000, {"kind": "table", "path": "/etc/passwd"}, "auto", "none"),
)
WORDS = (
    b"\0",
    b"\xff" * 8,
    b"[" * 2000,
    b"{" * 2000,
    b'"',
    b"9" * 5000,
    b"nan",
    b"-1e999",
    b"\n",
    b".",
    b"=",
    b"\x1b[31m",
    b"a." * 300,
)


# ------------------------------------------------------------------------------------------------------------ mutations


def mutated(data: bytes, dice: random.Random) -> bytes:
    """A few random changes to bytes."""
    for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
        data = dice.choice(BYTE_CHANGES)(data, dice)
    return data


def _truncate(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data) + 1)]


def _flip(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 4, 32))):
        if changed:
            changed[_place(changed, dice)] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _place(data: bytes | bytearray, dice: random.Random) -> int:
    """Anywhere, but often near the start, where headers are."""
    return dice.randrange(min(len(data), dice.choice((16, 256, len(data)))))


def _splice(data: bytes, dice: random.Random) -> bytes:
    start, end = sorted(dice.randrange(len(data) + 1) for _ in range(2))
    place = dice.randrange(len(data) + 1)
    return data[:place] + data[start : min(end, start + 4096)] + data[place:]


def _cut(data: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(data) + 1)
    return data[:start] + data[start + dice.choice((1, 4, 100)) :]


def _repeat(data: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(data) + 1)
    return data[:start] + data[start : start + 20] * dice.choice((2, 50)) + data[start:]


def _insert(data: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(data) + 1)
    return data[:place] + dice.choice(WORDS) + data[place:]


def _number(data: bytes, dice: random.Random) -> bytes:
    """Put a huge number, in bytes or in digits, over what is there."""
    place = _place(data, dice) if data else 0
    value = dice.choice((b"\xff\xff\xff\xff", (2**31).to_bytes(4, "little"), (2**31).to_bytes(4, "big"), b"99999999999", bytes(8)))
    return data[:place] + value + data[place + len(value) :]


BYTE_CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (_truncate, _flip, _splice, _cut, _repeat, _insert, _number)


def mutated_tree(tree: Any, dice: random.Random) -> Any:
    """A copy of JSON-like data in which one place holds something else."""
    if isinstance(tree, dict) and tree and dice.random() < 0.85:
        key = dice.choice(list(tree))
        return _changed_key(tree, key, dice) if dice.random() < 0.1 else tree | {key: mutated_tree(tree[key], dice)}
    if isinstance(tree, list) and tree and dice.random() < 0.6:
        place = dice.randrange(len(tree))
        return [*tree[:place], mutated_tree(tree[place], dice), *tree[place + 1 :]]
    return dice.choice(ODD)


def _changed_key(tree: dict[str, Any], key: str, dice: random.Random) -> dict[str, Any]:
    rest = {name: value for name, value in tree.items() if name != key}
    return rest if dice.random() < 0.5 else rest | {dice.choice(("", "x", key + "s", "..", "\x1b[2J", "a" * 500)): tree[key]}


# -------------------------------------------------------------------------------------------------------------- readers


@dataclass
class Outcome:
    """What became of the inputs of one reader: by exception, and the failures with the seeds that bring them back."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


class TooLongError(Exception):
    """An input on which a reader hangs."""


Attack = Callable[[random.Random], None]
"""Feeds one mutated input to a reader."""


def attack(one: Attack, seeds: range) -> Outcome:
    """Feed a reader one input for each seed; anything but success and an error with a message is a failure."""
    outcome = Outcome()
    for seed in seeds:
        try:
            with _watchdog():
                one(random.Random(seed))
            outcome.counts["read"] += 1
        except (DdpmError, UnreadableError) as error:
            str(error).encode("utf-8", "surrogatepass")
            outcome.counts[type(error).__name__] += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            outcome.failures.append(f"seed {seed}: {type(error).__name__}: {str(error)[:200]}\n{traceback.format_exc()[-1500:]}")
    return outcome


@contextmanager
def _watchdog() -> Iterator[None]:
    def bark(number: int, frame: object) -> None:
        raise TooLongError(f"longer than {LIMIT_SECONDS} s")

    before = signal.signal(signal.SIGALRM, bark)
    signal.alarm(LIMIT_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def written_outside(scratch: Path) -> Iterator[set[str]]:
    """Watch the interpreter's own report of its file operations: the paths outside of `scratch` that one of them would change."""
    outside: set[str] = set()
    inside, watching = str(scratch.resolve()), True

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if not watching or not _is_change(event, arguments):
            return
        named = arguments[: 1 if event == "open" else 2]
        base = _folder_of(event, arguments)
        paths = [os.path.realpath(base / os.fsdecode(path)) for path in named if isinstance(path, str | bytes | os.PathLike)]
        outside.update(path for path in paths if path.startswith("/") and not path.startswith((inside, "/dev/null")))

    sys.addaudithook(hear)
    try:
        yield outside
    finally:
        watching = False


def _folder_of(event: str, arguments: tuple[Any, ...]) -> Path:
    """What a name is relative to: shutil.rmtree removes names in a folder that it has opened."""
    opened = arguments[1] if event in ("os.remove", "os.rmdir") else -1
    return Path(os.readlink(f"/proc/self/fd/{opened}")) if opened >= 0 and Path("/proc/self/fd").exists() else Path.cwd()


def _is_change(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        return bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod")


def attacks(scratch: Path) -> dict[str, Attack]:
    """An attack on each reader; all files lie below `scratch`, and stay as they are between two inputs."""
    config = load_config(sets=SETS).config
    network = build_model(config.model, (1, 8, 8))
    return {
        "checkpoint": _on_checkpoint(scratch, network.state_dict(), to_toml(config)),
        "exported file": _on_exported(scratch, network.state_dict(), to_toml(config)),
        "what a file asks for": _on_demands(scratch, network.state_dict(), config),
        "config": _on_config(to_toml(config), to_toml(load_config(preset="quick").config)),
        "table": _on_table(scratch),
        "picture": _on_picture(),
        "colour profile": _on_profile(),
        "large file": _on_large_file(scratch),
        "labels": _on_labels(),
    }


STATE = {
    **{"step": 6, "seconds": 0.5, "image_shape": [1, 8, 8], "data_sha256": "2e", "class_names": ["a", "b"], "ema_updates": 6},
    **{"scaler": None, "loss_sums": {"interval": 1.5, "epoch": 2.5}, "loss_steps": {"interval": 2, "epoch": 6}, "last_loss": 0.9},
    **{"history": [{"epoch": 1, "loss": 0.5}], "last_held_out_loss": 0.9, "best_held_out_loss": None, "held_out_step": 6},
    **{"best_saved_loss": 0.5, "non_finite_steps": 0},
}


def _on_checkpoint(scratch: Path, weights: dict[str, torch.Tensor], config_toml: str) -> Attack:
    run = create_run(scratch / "runs", "fuzzed", "run")
    path = save_checkpoint(run, 6, {"model": weights, "ema": weights}, STATE, config_toml, keep_last=1, best=True)
    good = {file.name: file.read_bytes() for file in path.iterdir()}

    def one(dice: random.Random) -> None:
        name = dice.choice(list(good))
        changed = mutated_file(name, good[name], dice)
        manifest = json.loads(good["manifest.json"])
        if name != "manifest.json" and dice.random() < 0.9:  # with its sum renewed, as who means harm would
            manifest["files"][name] = {"size": len(changed), "sha256": hashlib.sha256(changed).hexdigest()}
        files = good | {"manifest.json": json.dumps(manifest).encode()} | {name: changed}
        try:
            for changed_name in {name, "manifest.json"}:
                (path / changed_name).write_bytes(files[changed_name])
            checkpoint = load_checkpoint(path)
            for key in STATE:
                checkpoint.state[key]
            load_trained(path, torch.device("cpu"))
        finally:
            for changed_name in {name, "manifest.json"}:
                (path / changed_name).write_bytes(good[changed_name])

    return one


def mutated_file(name: str, data: bytes, dice: random.Random) -> bytes:
    """A change of the bytes, or of what they say where the name tells how to read them."""
    if dice.random() < 0.4:
        return mutated(data, dice)
    if name.endswith(".jsonl"):
        return _mutated_lines(data, dice)
    if name.endswith(".json"):
        return dumped(mutated_tree(json.loads(data), dice))
    if name.endswith(".toml"):
        return _mutated_toml(data.decode(), dice)
    return mutated_header(data, dice) if name.endswith(".safetensors") else mutated(data, dice)


def _mutated_lines(data: bytes, dice: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    place = dice.randrange(len(lines))
    lines[place] = dumped(mutated_tree(json.loads(lines[place]), dice)) + b"\n"
    return b"".join(lines)


def dumped(tree: Any) -> bytes:
    """JSON, or what stands in for it."""
    try:
        return json.dumps(tree).encode()
    except ValueError:  # an integer of more digits than Python writes
        return b'{"step": ' + b"9" * 5000 + b"}"


def _mutated_toml(text: str, dice: random.Random) -> bytes:
    try:
        return tomli_w.dumps(mutated_tree(tomllib.loads(text), dice)).encode()
    except (TypeError, ValueError, AttributeError):  # None, which TOML lacks, or no table at the top
        return mutated(text.encode(), dice)


def mutated_header(data: bytes, dice: random.Random) -> bytes:
    """A safetensors file whose header says something else of the same bytes."""
    length = int.from_bytes(data[:8], "little")
    header = dumped(mutated_tree(json.loads(data[8 : 8 + length]), dice))
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _on_exported(scratch: Path, weights: dict[str, torch.Tensor], config_toml: str) -> Attack:
    path, good_path = scratch / "model.safetensors", scratch / "good.safetensors"
    facts = {"config": config_toml, "image_shape": [1, 8, 8], "step": 6, "class_names": ["a", "b"]}
    save_model_file(good_path, weights, {"ddpm": json.dumps(facts)})
    good = good_path.read_bytes()

    def one(dice: random.Random) -> None:
        if dice.random() < 0.5:
            path.write_bytes(mutated_file(path.name, good, dice))
        else:  # with its sum renewed
            save_model_file(path, weights, {"ddpm": _mutated_facts(facts, dice)})
        load_trained(path, torch.device("cpu"))

    return one


SIZES = (*range(1, 9), 8, 8, 64, 1000, 2048, 8192, 65_536)
NUMBERS = (1, 2, 4, 10_000, 10_001, 10**6, 10**9, 2**63, -1)
STRICT = Bounds(images=8, seconds_an_image=0.2, seconds=1.0)
"""So that what passes them can be drawn by the thousand."""
MOST_BYTES = 500_000_000
MODEST = {"sample": {"n": 4}, "train": {"sample_n": 4, "batch_size": 4}}
ASKED: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("sample.n", "train.sample_n", "train.batch_size", "train.evaluate_n"), NUMBERS),
    **dict.fromkeys(("sample.batch_size", "sample.batch_size "), (1, 10**6, 10**9)),
    "sample.sampler.steps": (1, 2, 20, 21, 10**9),
    "schedule.timesteps": (1, 2, 20, 10_001, 100_000),
    "sample.sampler.kind": ("ddpm", "ddim", "heun", "unipc"),
    "model.attention_resolutions": ([], [2048], [8192], [64], [8]),
    "model.norm_groups": (1, 4, 32),
}


def _on_demands(scratch: Path, weights: dict[str, torch.Tensor], config: Config) -> Attack:
    """A file or a run that asks for much: what passes the bounds must be drawn within the watchdog's seconds."""
    tree = tomllib.loads(to_toml(config))
    run = create_run(scratch / "demanding", "run", "run")
    checkpoint = save_checkpoint(run, 6, {"model": weights, "ema": weights}, STATE, to_toml(config), keep_last=1, best=False)
    manifest = json.loads((checkpoint / "manifest.json").read_text())

    def exported(text: str, shape: list[int]) -> Path:
        path = scratch / "demanding.safetensors"
        facts = {"config": text, "image_shape": shape, "step": 6, "class_names": []}
        save_model_file(path, weights, {"ddpm": json.dumps(facts)})
        return path

    def of_run(text: str, shape: list[int]) -> Path:
        files = {"config.toml": text.encode(), "state.json": json.dumps(STATE | {"image_shape": shape}).encode()}
        for name, content in files.items():
            (checkpoint / name).write_bytes(content)
            manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        (checkpoint / "manifest.json").write_text(json.dumps(manifest))
        return checkpoint

    def one(dice: random.Random) -> None:
        text = tomli_w.dumps(_asking(tree, dice))
        text = text if dice.random() < 0.9 else _mutated_toml(text, dice).decode(errors="replace")
        shape = [dice.choice((1, 1, 1, 3)), dice.choice(SIZES), dice.choice(SIZES)] if dice.random() < 0.5 else [1, 8, 8]
        trained = load_trained(dice.choice((exported, of_run))(text, shape), torch.device("cpu"))
        _draw_what_is_asked(trained)

    return one


def _asking(tree: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """A config that asks for a few other things."""
    asked: dict[str, Any] = {name: section | MODEST.get(name, {}) for name, section in json.loads(json.dumps(tree)).items()}
    for key in dice.sample(sorted(ASKED), dice.choice((0, 1, 1, 2, 3))):
        *parents, name = key.strip().split(".")
        section = asked
        for parent in parents:
            section = section[parent]
        section[name] = dice.choice(ASKED[key])
    return asked


def _draw_what_is_asked(trained: TrainedModel) -> None:
    settings, config = trained.config.sample, trained.config
    settings.sampler.prepare(trained.schedule)
    require_affordable(trained, settings, Demand.of(trained, settings, settings.n, images_from_file=True), STRICT)
    assert image_bytes(trained, settings) < MOST_BYTES, f"{trained.image_shape} within {STRICT}"
    few = settings.model_copy(update={"sampler": settings.sampler.model_copy(update={"steps": 1})})
    assert sum(len(batch) for batch in generate_samples(trained, range(settings.n), few)) == settings.n
    with torch.device("meta"):
        network = build_model(config.model, trained.image_shape)
    require_trainable(network, trained.origin, STRICT, lambda event: None, trained.config.model.makes_smaller)
    require_affordable_samples(config, trained.image_shape, network, torch.device("cpu"), trained.origin, STRICT)


def _mutated_facts(facts: dict[str, Any], dice: random.Random) -> str:
    if dice.random() < 0.5:
        return json.dumps(facts | {"config": _mutated_toml(facts["config"], dice).decode(errors="replace")})
    return dumped(mutated_tree(facts, dice)).decode()


def _on_config(*texts: str) -> Attack:
    def one(dice: random.Random) -> None:
        text = dice.choice(texts)
        data = mutated(text.encode(), dice) if dice.random() < 0.5 else _mutated_toml(text, dice)
        from_toml_text(data.decode("utf-8", "surrogateescape"), "fuzzed")

    return one


def _on_table(scratch: Path) -> Attack:
    path = scratch / "table"
    betas = np.linspace(1e-4, 0.02, 50).tolist()
    trees = ({"betas": betas, "note": "x"}, {"alpha_bar": np.cumprod(1 - np.array(betas)).tolist()}, betas)
    rows = "\n".join(f"{t},{beta}" for t, beta in enumerate(betas))
    texts = (*(json.dumps(tree).encode() for tree in trees), f"t,beta\n{rows}\n".encode(), "\n".join(map(str, betas)).encode())

    def one(dice: random.Random) -> None:
        in_tree = dice.random() < 0.4
        path.write_bytes(dumped(mutated_tree(dice.choice(trees), dice)) if in_tree else mutated(dice.choice(texts), dice))
        read_schedule_table(path, dice.choice((None, "betas", "alpha_bar")))

    return one


def _on_picture() -> Attack:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
    image = Image.fromarray(pixels)
    turned = Image.Exif()
    turned[0x0112] = 6
    forms: list[tuple[str, str, dict[str, Any]]] = [
        *(("PNG", mode, {}) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")),
        *(("JPEG", mode, {"exif": turned}) for mode in ("RGB", "L", "CMYK")),
        *(("TIFF", mode, {}) for mode in ("RGB", "F", "LAB", "1")),
        *((name, "RGB", {}) for name in ("GIF", "BMP", "WEBP", "PPM", "TGA", "JPEG2000")),
    ]
    samples = [_encoded(image, *form) for form in forms]

    def one(dice: random.Random) -> None:
        content = mutated(dice.choice(samples), dice)
        with quiet_decoders():
            header = read_header(content)
            assert (header.depth == 8) == (read_levels(content) is None)
            assert read_whole(content).header == header
            shape = (dice.choice((1, 2, 3, 4)), 8, 8)
            decode(content, shape, "white")
            values, _ = decode_deep(content, shape, "white", Wanted(-5.0, 300.0, "float32"))
            assert values.shape == shape
            assert ((values >= -5) & (values <= 300)).all()

    return one


def _on_profile() -> Attack:
    """Damaged profiles in sound pictures, whose pixels are read all the same."""
    profiles = (display_p3(), linear_grey(), srgb())
    images = [Image.new(mode, (4, 3), 100) for mode in ("RGB", "L", "RGBA", "LA", "CMYK")]

    def one(dice: random.Random) -> None:
        image, profile = dice.choice(images), mutated(dice.choice(profiles), dice)
        buffer = io.BytesIO()
        image.save(buffer, "TIFF" if image.mode == "CMYK" else "PNG", icc_profile=profile)
        header = read_header(buffer.getvalue())
        decode(buffer.getvalue(), (3, 3, 4), "white")
        if header.strange_profile:
            raise UnreadableError("a profile that cannot be used")

    return one


def _on_large_file(scratch: Path) -> Attack:
    """Files with holes, of a gigabyte, whose beginning is that of a picture or nearly so."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8))
    samples = [_encoded(image, name, "RGB", {}) for name in ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM", "TGA", "JPEG2000")]

    def one(dice: random.Random) -> None:
        with (scratch / "large.png").open("wb") as file:
            file.write(mutated(dice.choice(samples), dice))
            file.truncate(1 << 30)
        read_file(scratch, "large.png")

    return one


def _on_labels() -> Attack:
    names = [f"{chr(97 + number % 26)}{number}" for number in range(300)]

    def one(dice: random.Random) -> None:
        text = mutated(dice.choice(names).encode(), dice).decode("utf-8", "replace")
        assert 0 <= find_class(text, names) < len(names)

    return one


def _encoded(image: Image.Image, name: str, mode: str, options: dict[str, Any]) -> bytes:
    if mode == "LAB":
        image = Image.new("LAB", image.size, (50, 20, 30))
    elif mode != "RGB":
        image = image.convert("L").convert(mode) if mode in ("I;16", "F", "LA") else image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format=name, **options)
    return buffer.getvalue()
