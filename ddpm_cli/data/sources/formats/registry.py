"""List the formats of arrays that are recognised: one file each, and a line here, those that say most of themselves first."""

from __future__ import annotations

from ddpm_cli.data.sources.formats.dsprites import DSPRITES
from ddpm_cli.data.sources.formats.galaxy10 import GALAXY10
from ddpm_cli.data.sources.formats.imagenet import IMAGENET
from ddpm_cli.data.sources.formats.kuzushiji import KUZUSHIJI
from ddpm_cli.data.sources.formats.medmnist import MEDMNIST
from ddpm_cli.data.sources.formats.notmnist import NOTMNIST
from ddpm_cli.data.sources.formats.own import OWN
from ddpm_cli.data.sources.formats.pixel_table import PIXEL_TABLE
from ddpm_cli.data.sources.formats.quickdraw import QUICKDRAW
from ddpm_cli.data.sources.formats.samples import SAMPLES
from ddpm_cli.data.sources.formats.stl10 import STL10
from ddpm_cli.data.sources.formats.svhn import SVHN

READERS = (
    MEDMNIST,
    KUZUSHIJI,
    SAMPLES,
    IMAGENET,
    DSPRITES,
    GALAXY10,
    SVHN,
    NOTMNIST,
    STL10,
    PIXEL_TABLE,
    QUICKDRAW,
    OWN,
)
