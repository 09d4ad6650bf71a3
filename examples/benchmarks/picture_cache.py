"""Time a first start on a folder of small pictures and on archives of them, a second start, and `import torch` beside it.

python examples/benchmarks/picture_cache.py [PICTURES] [FOLDER] [KIND ...]

Kinds are folder, jpeg (a folder of JPEG), zip, tar and tgz, all unless told otherwise; 100,000 pictures of 64x64 unless told
otherwise. FOLDER keeps the pictures for the next time. Every start is a process of its own; a first one has an empty cache.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, CLASSES = 64, 10
KINDS = ("folder", "jpeg", "zip", "tar", "tgz")
SECOND_STARTS = 3
IMPORT = "import torch"
START = """
import resource, sys, time
begun = time.perf_counter()
from ddpm_cli.config.resolve.data_choice import data_flags
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.results.events import ignore
from ddpm_cli.training.planning.prepare import checked, with_data
config = checked(load_config(flags=data_flags(sys.argv[1]), sets=["train.device=cpu"]).config)
imported = time.perf_counter()
_, dataset = with_data(config, ignore)
import torch
done = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(len(dataset.train) + len(dataset.test), imported - begun, done - imported, *peak, dataset.sha256[:16])
"""
"""Of one start, as `ddpm train` makes it up to where it makes its network: config, data, torch."""


def main() -> None:
    """Make the pictures, and time the starts of each kind."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[2] if len(sys.argv) > 2 else temporary).absolute()
        print(f"{count:,} pictures of {SIDE}x{SIDE}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
        for kind in sys.argv[3:] or KINDS:
            _time(kind, _made(kind, folder, count), count)


def _time(kind: str, data: Path, count: int) -> None:
    with tempfile.TemporaryDirectory(dir=data.parent) as cache:
        found, _, seconds, own, workers, sha256 = _started(data, cache)
        print(
            f"{kind:6} first start: {float(seconds):6.1f} s, {count / float(seconds):7,.0f} pictures/s, {float(own):,.0f} MB "
            f"and {float(workers):,.0f} MB in a process of its own; {found} images, training images {sha256}",
            flush=True,
        )
        torch, second = [], []
        for _ in range(SECOND_STARTS):
            torch.append(_seconds(IMPORT))
            second.append(sum(float(part) for part in _started(data, cache)[1:3]))
        ratio = min(second) / min(torch)
        print(f"       second start: {min(second):.2f} s, {ratio:.2f} times `import torch`, {min(torch):.2f} s", flush=True)


def _started(data: Path, cache: str) -> list[str]:
    environment = os.environ | {"DDPM_CACHE": cache}
    command = [sys.executable, "-c", START, str(data)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()


def _seconds(code: str) -> float:
    timed = f"import time; begun = time.perf_counter(); {code}; print(time.perf_counter() - begun)"
    return float(subprocess.run([sys.executable, "-c", timed], check=True, capture_output=True, text=True).stdout)


def _made(kind: str, folder: Path, count: int) -> Path:
    """The pictures of a kind, made if they are not there."""
    suffix = "jpg" if kind == "jpeg" else "png"
    pictures = folder / f"{suffix}-{count}"
    if not pictures.is_dir():
        _write(pictures.with_suffix(".part"), suffix, count)
        pictures.with_suffix(".part").rename(pictures)
    if kind in ("folder", "jpeg"):
        return pictures
    archive = pictures.with_suffix(f".{kind}")
    if not archive.is_file():
        _pack(pictures, archive)
    return archive


def _write(folder: Path, suffix: str, count: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name in range(CLASSES):
        (folder / f"class{name}").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        (folder / f"class{number % CLASSES}" / f"{number:06}.{suffix}").write_bytes(_picture(rng, suffix))


def _picture(rng: np.random.Generator, suffix: str) -> bytes:
    """Smooth colours with a little noise, which take as many bytes as photographs do."""
    smooth = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    noisy = np.clip(np.asarray(smooth, np.int16) + rng.integers(-4, 5, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG" if suffix == "jpg" else "PNG")
    return buffer.getvalue()


def _pack(pictures: Path, archive: Path) -> None:
    files = sorted(path for path in pictures.rglob("*") if path.is_file())
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            for path in files:
                zipped.write(path, path.relative_to(pictures))
        return
    with tarfile.open(archive, "w:gz" if archive.suffix == ".tgz" else "w") as tar:
        for path in files:
            tar.add(path, path.relative_to(pictures))


if __name__ == "__main__":
    main()
