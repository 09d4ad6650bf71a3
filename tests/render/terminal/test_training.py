"""What is said of incidents while training and at the end."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ddpm_cli.render.terminal import training
from ddpm_cli.render.terminal.console import CleanConsole
from ddpm_cli.render.terminal.training import TrainingView, incident_facts, incident_message, next_commands, plan_facts
from ddpm_cli.results.events import Incident, MetricsLogged, TrainPlan, TrainPlanned, TrainProgress, TrainSummary

PLAN = TrainPlan(
    run=Path("runs/x"),
    data="fashion-mnist",
    data_source="the network",
    train_images=60_000,
    held_out_images=10_000,
    evaluated_images=1000,
    image_shape=(1, 28, 28),
    network="unet",
    parameters=1_000_000,
    flops_per_image=10**9,
    device="cpu",
    precision="fp32",
    processes=1,
    batch_size=128,
    objective="simple",
    start_step=0,
    total_steps=2_469_134,
    minutes=None,
    epochs=5000.0,
    estimated_seconds=None,
    estimated_bytes=None,
)


def test_an_incident_is_told_with_its_images() -> None:
    lost = Incident("non-finite", 1234, None, None, (7,), (42,), 1)
    assert incident_message(lost) == "Step 1,234: the loss is not finite; the step is skipped (training images 42)."
    steep = Incident("non-finite", 5, 0.5, None, (7,) * 9, tuple(range(9)), 9)
    assert incident_message(steep).endswith("the gradient is not finite; the step is skipped (training images 0, 1, 2, 3, 4...).")
    assert "the loss leaps to 8.5" in incident_message(Incident("spike", 5, 8.5, 1.0, (7,), (3,), 1))
    assert incident_message(Incident("overflow", 5, 8.5)) == incident_message(Incident("rollback", 5)) == ""


def test_hundreds_of_incidents_are_not_hundreds_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingView() as view:
        for step in range(300):
            for kind in ("non-finite", "spike", "overflow"):
                view(Incident(kind, step, 1.0, 1.0, (7,), (3,), 1))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6
    assert sum("Further ones are only counted." in line for line in lines) == 2


def test_the_end_table_counts_every_kind() -> None:
    counts = {"non-finite": 2, "overflow": 30, "spike": 1, "rollback": 1}
    summary = TrainSummary(Path("runs/x"), 9, 1.0, 9, 1.0, 1.0, None, None, None, 2, counts)
    facts = incident_facts(summary)
    assert [facts[name].split()[0] for name in ("skipped", "overflows", "spikes", "rollbacks")] == ["2", "30", "1", "1"]
    assert facts["see"] == "runs/x/incidents.jsonl"
    quiet = TrainSummary(Path("runs/x"), 9, 1.0, 9, 1.0, 1.0, None, None, None, 0, {})
    assert incident_facts(quiet) == {}


@pytest.mark.parametrize("lost", [0.0, 0.1, 0.48])
@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_live_bar_cuts_no_figure(width: int, lost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = CleanConsole(file=io.StringIO(), force_terminal=True, width=width, color_system=None, highlight=False)
    monkeypatch.setattr(training, "messages", screen)
    assert isinstance(screen.file, io.StringIO)
    with TrainingView() as view:
        view(TrainPlanned(PLAN))
        view(MetricsLogged({"step": 1_234_567, "loss": 0.9679}))
        view(TrainProgress(1_234_567, 0.5, 12_345.0, 342 * 3600 + 56 * 60, lost))
        before = len(screen.file.getvalue())
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.file.getvalue()[before:])  # drawn once more at the end
    status = "step 1,234,567  loss 0.9679  12,345 images/s  342 h 56 min left"
    assert ("busy -48%" in " ".join(shown.split())) == (lost > 0.1)
    assert set(status.split()) | {"50%"} <= set(shown.split())
    assert bool({"━", "╸"} & set(shown)) == (width >= 80)


def test_the_estimate_says_what_other_programs_take() -> None:
    assert "other" not in plan_facts(PLAN)["estimate"]
    busy = plan_facts(replace(PLAN, estimated_seconds=60.0, estimated_bytes=10**9, lost_to_others=0.5))["estimate"]
    assert busy.endswith(", while other programs take 50% of the processors")


def test_the_next_commands_name_the_run_as_a_shell_takes_it() -> None:
    summary = TrainSummary(Path("my runs/x"), 9, 1.0, 9, 1.0, 1.0, None, None, None, 0, {})
    assert all(line.split()[0] == "ddpm" and " 'my runs/x' " in line for line in next_commands(summary))
