#!/usr/bin/env bash
# Two readers of scans, each with something that its user would not expect.
#
# Versions: nibabel 5.4.2, tifffile 2026.3.3, numpy 2.4.6, Python 3.11.
# Expected: (1) a NIfTI file whose qform_code and sform_code are 0 is read by method 1 of nifti1.h, x = pixdim[1] * i with +x to the
#       right, and is left as it lies; (2) header.get_slope_inter() of a loaded file tells its scaling; (3) imwrite of three
#       slices [3, H, W] writes three pages.
# Seen: (1) nibabel's affine has -1 for x, so that as_closest_canonical mirrors the volume from left to right. (2) It is (None, None),
#       though the values are scaled; the scaling is in dataobj.slope. (3) tifffile writes one page of three colour planes, with a
#       warning.
# Output seen:
#   x of the affine: -1.0; first value of the canonical array: 1
#   get_slope_inter: (None, None); dataobj.slope: 2.0; values [0.0, 2.0]
#   pages of three slices: 1, axes SYX
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet nibabel==5.4.2 tifffile==2026.3.3 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import struct
import warnings
from pathlib import Path

import nibabel
import numpy as np
import tifffile

header = bytearray(352)
struct.pack_into("<i", header, 0, 348)
struct.pack_into("<8h", header, 40, 3, 2, 1, 1, 1, 1, 1, 1)
struct.pack_into("<2h", header, 70, 4, 16)
struct.pack_into("<8f", header, 76, *[1] * 8)
struct.pack_into("<3f", header, 108, 352, 0, 0)
header[344:348] = b"n+1\0"
Path("plain.nii").write_bytes(header + struct.pack("<2h", 0, 1))
image = nibabel.load("plain.nii")
first = int(np.asarray(nibabel.as_closest_canonical(image).dataobj).flat[0])
print(f"x of the affine: {image.affine[0, 0]}; first value of the canonical array: {first}")
assert (image.affine[0, 0], first) == (-1, 1)

struct.pack_into("<2f", header, 112, 2, 0)
Path("scaled.nii").write_bytes(header + struct.pack("<2h", 0, 1))
image = nibabel.load("scaled.nii")
values = image.get_fdata().ravel().tolist()
print(f"get_slope_inter: {image.header.get_slope_inter()}; dataobj.slope: {image.dataobj.slope}; values {values}")
assert image.header.get_slope_inter() == (None, None)
assert values == [0, 2]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    tifffile.imwrite("three.tif", np.zeros((3, 8, 9), np.uint8))
with tifffile.TiffFile("three.tif") as file:
    print(f"pages of three slices: {len(file.pages)}, axes {file.pages[0].axes}")
    assert len(file.pages) == 1
PYTHON
