"""Name the variances that a reverse step can have. Imports no torch."""

from typing import Literal

ModelVariance = Literal["fixed-small", "fixed-large", "learned-range"]
"""beta-tilde, beta (Ho et al. 2020, Sec. 3.2), or what the network says between them (Nichol & Dhariwal 2021, Eq. 15)."""
