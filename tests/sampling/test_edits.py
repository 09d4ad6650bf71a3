"""What each edit demands before anything is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from trained_models import trained_model

from ddpm_cli.sampling.bounds import Demand
from ddpm_cli.sampling.edits import Edit, Filling, Interpolation, Variation
from ddpm_cli.sampling.request import FILLING, VARYING, Drawing, Way, editing_of, way_between

PICTURE = np.zeros((1, 8, 12), np.uint8)
MASK = np.ones((8, 12), np.bool_)


@pytest.mark.parametrize(
    ("edit", "way", "drawing", "demand"),
    [
        (Interpolation((3, 8), 5), way_between(0), {"steps": 4}, Demand(5, 4, steps_from_file=False)),
        (Interpolation((PICTURE, 8), 2), way_between(1), {"steps": 4}, Demand(2, 4, steps_from_file=False, beforehand=3 * 4)),
        (Filling(PICTURE, MASK, 2, 3, None), FILLING, {"steps": 6}, Demand(2, 18, steps_from_file=False)),
        (Variation(PICTURE, 0.5, 3), VARYING, {}, Demand(3, 6)),
        (Variation(PICTURE, 0.0, 1), VARYING, {"steps": 5}, Demand(1, 1, steps_from_file=False)),
    ],
)
def test_an_edit_reckons_what_it_draws(edit: Edit, way: Way, drawing: Drawing, demand: Demand) -> None:
    trained = trained_model()
    assert edit.demand(trained, editing_of(trained, None, drawing, [], way)) == demand
