"""Configs, tables, pictures and arrays that were made to do harm; see test_hostile_files.py."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from ddpm_cli.config.resolve.loader import from_toml_text, load_config
from ddpm_cli.core.io.beta_table import read_schedule_table
from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.data.pictures.decode import MOST_PIXELS, decode, read_whole
from ddpm_cli.data.sources.arrays import load_arrays
from ddpm_cli.errors import ConfigError, DataError, RunError, ScheduleError
from ddpm_cli.experiments.speedrun_file import load_record
from ddpm_cli.experiments.sweep_file import load_sweep
from ddpm_cli.runs.directory import create_run

pytestmark = pytest.mark.usefixtures("cost")


# -------------------------------------------------------------------------------------------------------------- configs


BOMBS = {
    "keys": "\n".join(f"k{number} = 1" for number in range(10_000)),
    "sections": "\n".join(f"[a{number}]" for number in range(10_000)),
    "faults": "[schedule]\nkind = 'table'\nbetas = [" + "'x', " * 40_000 + "]",
    "array": "x = " + "[" * 100_000,
    "closed array": "x = " + "[" * 100_000 + "]" * 100_000,
    "inline tables": "x = " + "{a = " * 100_000,
    "dotted key": ".".join("a" * 400_000) + " = 1",
    "spaced key": " . ".join(["'a'", '"b\\"."'] * 60_000) + " = 1",
    "dotted section": "[" + ".".join("a" * 400_000) + "]",
    "integer": "[train]\nseed = " + "9" * 900_000,
    "hexadecimal": "[train]\nseed = 0x" + "f" * 900_000,
    "long integer": "[train]\nseed = " + "9" * 4000,
    "float": "[optimizer]\nlr = " + "9" * 900_000 + ".0",
    "string": "[schedule]\nkind = '" + "x" * 900_000 + "'",
    "spaces": "a" + " " * 900_000,
    "quotes": '"' * 900_000,
    "escapes": '"' + "\\" * 900_000,
    "dates": "[train]\nseed = 9999-99-99T99:99:99",
    "control": "[train]\nseed = '\\u001b[2J'",
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.timeout(20)
def test_toml_bombs_are_refused(tmp_path: Path, bomb: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(BOMBS[bomb])
    for read in (
        lambda: load_config(file=path),
        lambda: from_toml_text(BOMBS[bomb]),
        lambda: load_sweep(path),
        lambda: load_record(path),
    ):
        with pytest.raises(ConfigError) as refused:
            read()
        assert len(str(refused.value)) < 20_000
        assert len(str(refused.value).splitlines()) < 30


def test_thousands_of_faults_are_counted_and_a_few_shown(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(BOMBS["keys"])
    with pytest.raises(ConfigError, match="and 9,980 more"):
        load_config(file=path)


def test_a_key_of_many_parts_in_a_text_is_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("[train] # a.b.c.d, 1.2.3\nseed = 3\n" + "# " + "." * 1000 + "\n" + f"# {'1.5, ' * 1000}\n")
    assert load_config(file=path).config.train.seed == 3


@pytest.mark.parametrize("grid", ["seed = [" + "1, " * 200_000 + "]", "seed = [1, 2]\n" + "steps = [" + "1, 2, " * 1000 + "]"])
def test_sweep_bombs_are_refused(tmp_path: Path, grid: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(f"[grid.train]\n{grid}\n")
    with pytest.raises(ConfigError):
        load_sweep(path)


@pytest.mark.parametrize("name", ["../x", "/abs", "a/b", ".", "..", "", "a\nb", "a\n", "x\0", "-x", ".x", "a\\b", "ä", "x" * 101])
def test_names_that_are_paths_are_refused_everywhere(tmp_path: Path, name: str) -> None:
    root = tmp_path / "runs"
    for attempt in (lambda: create_run(root, name, "run"), lambda: create_run(root, None, name)):
        with pytest.raises(RunError, match="cannot be the name of a run"):
            attempt()
    file = tmp_path / "sweep.toml"
    file.write_text(f"[arms.{json.dumps(name)}]\n")
    with pytest.raises(RunError, match="cannot be the name of a run"):
        load_sweep(file, name)
    with pytest.raises(ConfigError, match="cannot be the name of a run"):
        load_sweep(file, "sweep")
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.toml"]


# --------------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    "text",
    [
        *(
            "beta\nnan\n",
            "beta\ninf\n",
            '{"betas": [NaN]}',
            '{"betas": [1e999]}',
            '{"betas": [0.1, "\\u001b[2J"]}',
            "beta\n\x1b[2J\n",
        ),
        *("beta\n" + "0\n" * 500_000, '{"betas": [' + "0," * 500_000 + "0]}", '{"betas": [' + "[]," * 300_000 + "[]]}"),
        *(
            "a," * 1_000_000,
            "[" * 9_000_000,
            '"' + "x" * 9_000_000,
            "\0\1\2",
            '{"betas": [' + "9" * 100_000 + "]}",
            "x" * 10_000_001,
        ),
    ],
    ids=range(15),
)
@pytest.mark.timeout(20)
def test_table_bombs_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ScheduleError) as refused:
        read_schedule_table(path, "betas")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1000


# -------------------------------------------------------------------------------------------------------------- pictures


def test_a_decompression_bomb_is_not_unpacked() -> None:
    side = int(MOST_PIXELS**0.5) + 1
    for form, mode in (("PNG", "1"), ("GIF", "1"), ("TIFF", "1")):
        buffer = io.BytesIO()
        Image.new(mode, (side, side)).save(buffer, format=form, **({"compression": "group4"} if form == "TIFF" else {}))
        assert buffer.tell() < 2_000_000
        with pytest.raises(UnreadableError, match="would unpack to more than 50,000,000 pixels"):
            decode(buffer.getvalue(), (3, 8, 8), "white")


@pytest.fixture(scope="module", params=["LA", "RGBA", "CMYK"])
def largest_picture(request: pytest.FixtureRequest) -> bytes:
    """As many pixels as are read, of a kind that is converted and turned on its side: three copies of it if done carelessly."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    form = "JPEG" if request.param == "CMYK" else "PNG"
    Image.new(request.param, (7000, MOST_PIXELS // 7000)).save(buffer, format=form, exif=exif)
    return buffer.getvalue()


def test_the_largest_picture_is_read_within_the_limits(largest_picture: bytes) -> None:
    assert decode(largest_picture, (3, 8, 8), "white").shape == (3, 8, 8)
    assert read_whole(largest_picture)[0].height == 7000


def test_threads_together_hold_no_more_than_the_largest_picture(largest_picture: bytes) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(partial(decode, shape=(1, 8, 8), background="white"), [largest_picture] * 2))


def test_an_archive_of_arrays_that_is_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (2**20, 28, 28)})
        for _ in range(28 * 28):
            file.write(bytes(2**20))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(DataError, match=r"would unpack to 0\.8 GB"):
        load_arrays(path)


def test_a_matlab_file_that_is_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """What its header declares is harmless: one element holds far more than that."""
    path = tmp_path / "bomb.mat"
    savemat(path, {"images": np.zeros((9, 8, 8), np.uint8)}, do_compression=True)
    bomb = zlib.compress(bytes(120_000_000), 6)
    path.write_bytes(path.read_bytes() + (15).to_bytes(4, "little") + len(bomb).to_bytes(4, "little") + bomb)
    with pytest.raises(DataError, match=r"would unpack to more than 0\.1 GB"):
        load_arrays(path)


def test_a_packed_table_that_is_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    table = tmp_path / "bomb.csv.gz"
    table.write_bytes(gzip.compress((b"0," * 4_095 + b"0\n") * 14_000, 6))
    with pytest.raises(DataError, match="would unpack to far more"):
        load_arrays(table)
