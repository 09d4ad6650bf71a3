"""What a resume says of a launch that differs from the one before."""

from __future__ import annotations

import pytest
import torch

from ddpm_cli.engine.launch_record import launch, launch_notice
from ddpm_cli.engine.train import make_accelerator
from ddpm_cli.files import UnreadableError
from ddpm_cli.runs.checkpoint_state import check_state

HERE = {"processes": 1, "threads": 4, "device": "cpu", "torch": "2.14.1"}


def test_a_launch_is_what_it_says() -> None:
    found = launch(make_accelerator("cpu", "fp32"))
    assert found == {"processes": 1, "threads": torch.get_num_threads(), "device": "cpu", "torch": torch.__version__}
    check_state({"launch": found})


def test_nothing_is_said_where_nothing_differs_or_nothing_is_known() -> None:
    assert launch_notice(HERE, dict(HERE)) is None
    assert launch_notice(None, HERE) is None


def test_one_notice_names_all_that_differs() -> None:
    notice = launch_notice(HERE, HERE | {"processes": 2, "threads": 1, "device": "cuda (H100)"})
    assert notice is not None
    for words in (
        "processes 2 instead of 1",
        "threads in each process 1 instead of 4",
        "device cuda (H100) instead of cpu",
        "bits",
    ):
        assert words in notice
    assert "torch" not in notice
    assert "dropout leaves out others" in notice
    assert "dropout" not in str(launch_notice(HERE, HERE | {"threads": 1}))


@pytest.mark.parametrize("broken", [[], HERE | {"more": 1}, HERE | {"threads": "4"}, HERE | {"device": 3}, {"processes": 1}])
def test_a_launch_of_another_kind_is_refused(broken: object) -> None:
    with pytest.raises(UnreadableError, match="launch"):
        check_state({"launch": broken})
