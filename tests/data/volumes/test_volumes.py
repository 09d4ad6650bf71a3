"""A ramp through each kind of scan arrives as the same ramp, upright, with the range that the file says."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from scan_files import write_dicom, write_nifti, write_tiff

from ddpm_cli.data.volumes.dicom import read_dicom
from ddpm_cli.data.volumes.nifti import read_nifti
from ddpm_cli.data.volumes.tiff import read_tiff

nibabel = pytest.importorskip("nibabel")
pydicom = pytest.importorskip("pydicom")
tifffile = pytest.importorskip("tifffile")
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def only(volume) -> np.ndarray:
    (values,) = volume.slices
    return values


# ---------------------------------------------------------------------------------------------------------------- NIfTI

X, Y, Z = np.meshgrid(np.arange(3), np.arange(4), np.arange(5), indexing="ij")
WHERE = (100 * X + 10 * Y + Z).astype(np.int16)
"""Values that tell where they are: steps to the right, to the front and to the head."""


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (None, [[[100 * x + 10 * y + z for x in (2, 1, 0)] for y in (3, 2, 1, 0)] for z in range(5)]),
        (1, [[[100 * x + 10 * y + z for x in (2, 1, 0)] for z in (4, 3, 2, 1, 0)] for y in range(4)]),
        (0, [[[100 * x + 10 * y + z for y in (3, 2, 1, 0)] for z in (4, 3, 2, 1, 0)] for x in range(3)]),
    ],
)
def test_slices_of_nifti_are_upright(tmp_path: Path, suffix: str, axis: int | None, expected: list) -> None:
    volume = read_nifti(write_nifti(tmp_path / f"a{suffix}", WHERE, np.eye(4)), axis)
    assert np.stack(volume.slices).tolist() == expected
    assert (volume.slices[0].dtype, volume.oriented, volume.ranges) == (np.int16, True, frozenset())


def test_however_the_array_of_nifti_lies(tmp_path: Path) -> None:
    """Axes in another order and from the other side, as the affine says; and by nibabel's own writer."""
    stored = WHERE.transpose(2, 0, 1)[::-1]  # foot to head became head to foot, along the first axis
    affine = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [-1, 0, 0, 4], [0, 0, 0, 1.0]])
    upright = np.stack(read_nifti(write_nifti(tmp_path / "a.nii", WHERE, np.eye(4))).slices)
    turned = read_nifti(write_nifti(tmp_path / "b.nii", np.asfortranarray(stored), affine))
    np.testing.assert_array_equal(np.stack(turned.slices), upright)
    nibabel.save(nibabel.Nifti2Image(stored, affine), tmp_path / "c.nii.gz")
    np.testing.assert_array_equal(np.stack(read_nifti(tmp_path / "c.nii.gz").slices), upright)


def test_nifti_of_no_orientation_is_taken_as_it_lies(tmp_path: Path) -> None:
    known = read_nifti(write_nifti(tmp_path / "a.nii", WHERE, np.eye(4)))
    unknown = read_nifti(write_nifti(tmp_path / "b.nii", WHERE))
    np.testing.assert_array_equal(np.stack(unknown.slices), np.stack(known.slices))
    assert (known.oriented, unknown.oriented) == (True, False)


def test_nifti_is_scaled(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", WHERE, np.eye(4), slope=0.5, inter=-3, cal=(-1, 60))
    volume = read_nifti(path)
    assert volume.slices[0].dtype == np.float32
    np.testing.assert_array_equal(volume.slices[4], 0.5 * WHERE[::-1, ::-1, 4].T - 3)
    np.testing.assert_array_equal(np.stack(volume.slices, -1), nibabel.load(path).get_fdata()[::-1, ::-1].swapaxes(0, 1))
    assert (volume.ranges, volume.says_all) == ({(-1.0, 60.0)}, True)


def test_nifti_of_times_and_of_one_plane(tmp_path: Path) -> None:
    times = np.stack([WHERE, WHERE + 1000], -1)
    found = np.stack(read_nifti(write_nifti(tmp_path / "a.nii", times, np.eye(4))).slices)
    first = np.stack(read_nifti(write_nifti(tmp_path / "b.nii", WHERE, np.eye(4))).slices)
    np.testing.assert_array_equal(found, np.concatenate([first, first + 1000]))
    plane = read_nifti(write_nifti(tmp_path / "c.nii", WHERE[:, :, 0], np.eye(4)))
    np.testing.assert_array_equal(only(plane), first[0])


def test_nifti_of_colours(tmp_path: Path) -> None:
    colours = np.zeros((3, 4, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours["G"] = WHERE[:, :, :2] // 2
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    assert volume.slices[0].shape == (4, 3, 3)
    np.testing.assert_array_equal(volume.slices[1][..., 1], WHERE[::-1, ::-1, 1].T // 2)
    assert not volume.slices[1][..., 0].any()


# ---------------------------------------------------------------------------------------------------------------- DICOM


def test_a_ramp_of_dicom(tmp_path: Path) -> None:
    volume = read_dicom(write_dicom(tmp_path / "a.dcm", RAMP, bits=12))
    np.testing.assert_array_equal(only(volume), RAMP)
    assert (only(volume).dtype, volume.ranges, volume.says_all) == (np.uint16, {(0.0, 4095.0)}, True)
    assert read_dicom(write_dicom(tmp_path / "b.dcm", RAMP)).ranges == frozenset()


def test_dicom_is_rescaled_and_its_window_is_the_range(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP, bits=12, rescale=(1, -1024), window=("40\\300", "400\\1500"))
    volume = read_dicom(path)
    np.testing.assert_array_equal(only(volume), RAMP.astype(int) - 1024)
    assert only(volume).dtype == np.int16
    assert volume.ranges == {(-160.0, 239.0)}  # C.11.2.1.2.1: c - 0.5 -+ (w - 1) / 2
    halves = read_dicom(write_dicom(tmp_path / "b.dcm", RAMP, rescale=(0.5, 2)))
    np.testing.assert_array_equal(only(halves), RAMP / 2 + 2)
    assert only(halves).dtype == np.float32


def test_the_window_is_that_of_pydicom(tmp_path: Path) -> None:
    """Values at the ends of the range are the first that pydicom shows black, and the first white."""
    from pydicom.pixels import apply_windowing

    path = write_dicom(tmp_path / "a.dcm", RAMP, bits=12, window=("2000", "1000"))
    ((low, high),) = read_dicom(path).ranges
    shown = apply_windowing(RAMP, pydicom.dcmread(path))
    assert (low, high) == (RAMP[shown == shown.min()].max(), RAMP[shown == shown.max()].min())


@pytest.mark.parametrize(("kind", "top"), [(np.uint16, 4095), (np.int16, -1)])
def test_monochrome1_is_turned_over_with_its_window(tmp_path: Path, kind: type, top: int) -> None:
    stored = RAMP.astype(int) - (0 if top > 0 else 2048)
    facts = {"photometric": "MONOCHROME1", "rescale": (2, 10), "window": (100, 51)}
    volume = read_dicom(write_dicom(tmp_path / "a.dcm", stored.astype(kind), bits=12, **facts))
    np.testing.assert_array_equal(only(volume), 2 * (top - stored) + 10)
    ((low, high),) = volume.ranges
    assert (low, high) == (2 * top + 20 - 124.5, 2 * top + 20 - 74.5)


def test_frames_colours_and_tables_of_dicom(tmp_path: Path) -> None:
    frames = np.stack([RAMP, RAMP + 1])
    volume = read_dicom(write_dicom(tmp_path / "a.dcm", frames))
    np.testing.assert_array_equal(np.stack(volume.slices), frames)
    colours = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    np.testing.assert_array_equal(only(read_dicom(write_dicom(tmp_path / "b.dcm", colours))), colours)
    dataset = pydicom.dcmread(write_dicom(tmp_path / "c.dcm", RAMP % 4))
    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType, table.LUTData = [4, 0, 16], "US", [0, 10, 500, 3]
    table["LUTData"].VR = "US"
    dataset.ModalityLUTSequence = [table]
    dataset.save_as(tmp_path / "c.dcm")
    np.testing.assert_array_equal(only(read_dicom(tmp_path / "c.dcm")), np.array([0, 10, 500, 3])[RAMP % 4])


def test_frames_that_are_rescaled_each_for_itself(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", np.stack([RAMP, RAMP])))
    dataset.PerFrameFunctionalGroupsSequence = []
    for slope in (2, 3):
        values, item = pydicom.Dataset(), pydicom.Dataset()
        values.RescaleSlope, values.RescaleIntercept = slope, 1
        item.PixelValueTransformationSequence = [values]
        dataset.PerFrameFunctionalGroupsSequence.append(item)
    dataset.save_as(tmp_path / "a.dcm")
    first, second = read_dicom(tmp_path / "a.dcm").slices
    np.testing.assert_array_equal(first, 2 * RAMP.astype(int) + 1)
    np.testing.assert_array_equal(second, 3 * RAMP.astype(int) + 1)


def test_dicom_of_run_lengths(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", RAMP))
    dataset.compress(pydicom.uid.RLELossless)
    dataset.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(only(read_dicom(tmp_path / "a.dcm")), RAMP)


# ----------------------------------------------------------------------------------------------------------------- TIFF


def test_pages_of_tiff(tmp_path: Path) -> None:
    pages = [RAMP, RAMP[::-1], RAMP.T]
    for path in (write_tiff(tmp_path / "a.tif", *pages), tmp_path / "b.tif"):
        if not path.exists():
            tifffile.imwrite(path, np.stack(pages), photometric="minisblack", compression="zlib")
        volume = read_tiff(path)
        np.testing.assert_array_equal(np.stack(volume.slices), np.stack(pages))
        assert volume.ranges == frozenset()


def test_the_range_that_tiff_says(tmp_path: Path) -> None:
    volume = read_tiff(write_tiff(tmp_path / "a.tif", RAMP, RAMP, levels=(16, 4095)))
    assert (volume.ranges, volume.says_all) == ({(16.0, 4095.0)}, True)
    white_is_0 = read_tiff(write_tiff(tmp_path / "b.tif", RAMP, photometric=0))
    np.testing.assert_array_equal(only(white_is_0), 65535 - RAMP)


@pytest.mark.parametrize("channels", [2, 5, 16])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_bands_of_tiff(tmp_path: Path, channels: int, planes: str) -> None:
    bands = np.random.default_rng(0).integers(0, 60000, (6, 7, channels), np.uint16)
    stored = bands if planes == "contig" else bands.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", planarconfig=planes)
    np.testing.assert_array_equal(only(read_tiff(tmp_path / "a.tif")), bands)
    np.testing.assert_array_equal(only(read_tiff(write_tiff(tmp_path / "b.tif", bands))), bands)


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_channels_that_lie_in_pages(tmp_path: Path, name: str) -> None:
    stack = np.random.default_rng(0).integers(0, 60000, (4, 2, 6, 7), np.uint16)
    tifffile.imwrite(tmp_path / name, stack, imagej="ome" not in name, metadata={"axes": "ZCYX"})
    np.testing.assert_array_equal(np.stack(read_tiff(tmp_path / name).slices), stack.transpose(0, 2, 3, 1))


def test_colours_palettes_floats_and_small_copies_of_tiff(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4, 6, 7, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb")
    np.testing.assert_array_equal(np.stack(read_tiff(tmp_path / "a.tif").slices), colours)
    palette = np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "b.tif", colours[..., 0], photometric="palette", colormap=palette)
    np.testing.assert_array_equal(np.stack(read_tiff(tmp_path / "b.tif").slices), (palette >> 8).T[colours[..., 0]])
    with tifffile.TiffWriter(tmp_path / "c.tif") as file:
        file.write(RAMP / np.float32(7))
        file.write(RAMP[::2, ::2].astype(np.float32), subfiletype=1)
    np.testing.assert_array_equal(only(read_tiff(tmp_path / "c.tif")), RAMP / np.float32(7))


def test_nothing_is_said_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as told:
        read_dicom(write_dicom(tmp_path / "a.dcm", RAMP, (0x0008, 0x0020, b"DA", "no date")))
    assert not told
    assert capfd.readouterr() == ("", "")
