#!/usr/bin/env bash
# A .mat file that is cut off between two variables loads without a word, numpy.loadtxt counts the row of one fault from 0 and of
# another from 1, and h5py reads any file that an HDF5 file names.
#
# Versions: scipy 1.17.1, numpy 2.4.6, h5py 3.16.0, Python 3.11.
# Expected: loadmat knows how many variables there are; both faults of the third line are in one row; a data set holds its own bytes.
# Seen: the format has no count of variables, so that labels are lost silently; the third line is "row 2" and "row 3"; a data set
# with external storage returns the bytes of a file beside it (or of /etc/passwd) as pixels.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=${PYTHON:-}
if [ -z "$python" ]; then
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet scipy==1.17.1 numpy==2.4.6 h5py==3.16.0
    python="$folder/venv/bin/python"
fi
cd "$folder"
"$python" - > seen <<'PYTHON'
import io

import h5py
import numpy as np
from scipy.io import loadmat, savemat

whole, images_alone = io.BytesIO(), io.BytesIO()
images = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
savemat(whole, {"images": images, "labels": np.arange(3)})
savemat(images_alone, {"images": images})
cut = io.BytesIO(whole.getvalue()[: len(images_alone.getvalue())])
print("cut off:", [key for key in loadmat(cut) if not key.startswith("_")])

for third in ("5,x\n", "5\n"):
    try:
        np.loadtxt(iter(["1,2\n", "3,4\n", third]), np.uint8, delimiter=",")
    except ValueError as error:
        print(str(error).partition(";")[0])

with open("secret", "wb") as file:
    file.write(b"secret")
with h5py.File("a.h5", "w") as file:
    file.create_dataset("images", (6,), "u1", external=[("secret", 0, 6)])
with h5py.File("a.h5") as file:
    print("external:", file["images"][()].tobytes())
PYTHON
cat seen
diff seen - <<'EXPECTED'
cut off: ['images']
could not convert string 'x' to uint8 at row 2, column 2.
the number of columns changed from 2 to 1 at row 3
external: b'secret'
EXPECTED
