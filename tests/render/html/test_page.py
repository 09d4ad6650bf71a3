"""What a report's page says, read without a browser; test_report_in_browser.py opens it."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fake_runs import fake_run
from PIL import Image
from report_pages import WRITTEN, whole_report, whole_run

from ddpm_cli.errors import RunError
from ddpm_cli.experiments.report import MOST_GRIDS, gather_report
from ddpm_cli.render.html.page import to_html
from ddpm_cli.render.html.plots import MOST_POINTS, training_plots
from ddpm_cli.results.events import Event, Notice
from ddpm_cli.runs.report import RunReport
from ddpm_cli.runs.run_directory import RunDirectory

ATTACK = "</script><script>window.attacked = 1</script><img src=x onerror=window.attacked=2>"


@pytest.fixture(autouse=True)
def without_plotly_js(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's 5 MB, which are of no interest here, are slow to parse."""
    monkeypatch.setattr("ddpm_cli.render.html.page.library", lambda: "/* plotly.js */")


class Page(HTMLParser):
    """The tags of a page and its text, without what scripts and styles hold."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._texts: list[str] = []
        self._inside = ""
        self.feed(content)
        self.text = " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self._texts.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def page_of(report: RunReport) -> Page:
    return Page(to_html(report, WRITTEN))


def test_every_part_is_there(tmp_path: Path) -> None:
    report = whole_report(tmp_path)
    page = page_of(report)
    for words in (
        "finished · fashion-mnist-10k, 10,000 images · linear schedule · abacus · seed 0",
        "Steps 100 Images seen 1,000 Time in training 10 s",
        "Loss 0.06 Held-out loss 0.05",
        "Images per second",
        "fcd",
        "Samples at step 100",
        "DDIM, 2 steps of step 100.",
        "linear, T = 50",
        "62.5 0.5 2,000 100, EMA",
        "ddim, 10 steps (50 evaluations an image), guidance 1",
        "10,000 images of fashion-mnist-10k (train), sha256 aaaaaaaaaaaaaaaa",
        "1 spike",
        "57 3.5 - 3 17",
        '[schedule] kind = "linear" timesteps = 50',
        "data.train_images 10000",
        "Written by ddpm",
        "2023-11-14 22:13 UTC",
    ):
        assert words in page.text, page.text
    labels = [image["data-label"] for image in page.all("img")]
    assert labels[:3] == ["step 20", "step 60", "step 100"]
    assert labels[3].startswith("t = 49, alpha_bar ")
    assert labels[-1] == "finished images"
    assert len([tag for tag in page.all("div") if "plotly-graph-div" in (tag.get("class") or "")]) == 5


def test_pictures_are_in_the_page_as_they_are_in_the_run(tmp_path: Path) -> None:
    report = whole_report(tmp_path)
    sources = [image["src"] or "" for image in page_of(report).all("img")]
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    first, *_, last = (base64.b64decode(source.partition(",")[2]) for source in sources)
    assert first == (report.run.path / "samples" / "step-00000020.png").read_bytes()
    with Image.open(io.BytesIO(last)) as picture:
        assert picture.size == (22, 22)


def test_the_page_names_nothing_to_load(tmp_path: Path) -> None:
    page = page_of(whole_report(tmp_path))
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "http" not in policy
    assert all("src" not in script for script in page.all("script"))
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("data:", "#")), (tag, attributes)


def hostile_run(folder: Path) -> RunDirectory:
    """A run whose every text is an attack."""
    run = fake_run(folder, "first", logged={ATTACK: 1.0, "fcd": 2.0})
    config = run.config_path.read_text()
    run.config_path.write_text(config.replace('kind = "fashion-mnist-10k"', f'kind = "folder"\nroot = {json.dumps(ATTACK)}'))
    info = json.loads(run.info_path.read_text()) | {"device_name": ATTACK, "command": [ATTACK], ATTACK: {ATTACK: [ATTACK]}}
    info["data"]["name"] = ATTACK
    run.info_path.write_text(json.dumps(info))
    whole = whole_run(folder)
    figures = (whole.evaluations_folder / "figures.jsonl").read_text().splitlines()
    row = json.loads(figures[0])
    row |= {"metric": ATTACK, "data": ATTACK, "unit": ATTACK, "notes": [ATTACK], "terms": {ATTACK: 1.0}}
    row["details"] |= {"sampler": ATTACK, ATTACK: ATTACK}
    run.evaluations_folder.mkdir()
    (run.evaluations_folder / "figures.jsonl").write_text(json.dumps(row) + "\n")
    return run


def test_what_a_run_says_is_text(tmp_path: Path) -> None:
    report = gather_report(hostile_run(tmp_path), device=None)
    report = replace(report, run=replace(report.run, name=ATTACK))
    content = to_html(report, WRITTEN)
    assert "<script>window" not in content
    assert "<img src=x" not in content
    page = Page(content)
    assert page.all("img") == []
    assert page.text.count(ATTACK) >= 10
    assert len(page.all("script")) == len(page_of(whole_report(tmp_path / "other")).all("script")) + 1  # one curve more


def test_a_run_of_which_little_is_left(tmp_path: Path) -> None:
    run = fake_run(tmp_path, "bare", checkpoint=False)
    run.metrics_log.unlink()
    run.samples_folder.rmdir()
    report = gather_report(run, device="cpu")
    assert report.trajectory is None
    text = page_of(report).text
    for words in (
        "not finished",
        "Nothing was logged yet.",
        "No samples were drawn during training.",
        "There is no checkpoint to draw from.",
        "Nothing was measured yet. ddpm evaluate bare does.",
        "None: no step was skipped, no loss stood out.",
    ):
        assert words in text, text


def test_a_damaged_picture_is_passed_over_and_said(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    damaged, link = run.samples_folder / "step-00000060.png", run.samples_folder / "step-00000070.png"
    damaged.write_text(ATTACK)
    link.symlink_to(run.config_path)
    told: list[Event] = []
    report = gather_report(run, device=None, on_event=told.append)
    assert [stored.step for stored in report.grids] == [20, 100]
    assert [event.message.split()[0] for event in told if isinstance(event, Notice)] == [str(damaged), str(link)]


def test_of_many_pictures_some_are_taken(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    source = (run.samples_folder / "step-00000020.png").read_bytes()
    for step in range(1000, 1000 + 2 * MOST_GRIDS):
        (run.samples_folder / f"step-{step:08d}.png").write_bytes(source)
    report = gather_report(run, device=None)
    steps = [stored.step for stored in report.grids]
    assert (len(steps), steps[0], steps[-1]) == (MOST_GRIDS, 20, 1000 + 2 * MOST_GRIDS - 1)
    assert f"{MOST_GRIDS} of {2 * MOST_GRIDS + 3} pictures, evenly chosen." in page_of(report).text


def test_of_a_long_log_some_points_are_drawn_and_the_last() -> None:
    log = [{"step": step, "loss": 1 / step} for step in range(1, 3 * MOST_POINTS)]
    (plot,) = training_plots(log)
    assert f"{3 * MOST_POINTS - 1}]" in plot.html
    assert len(plot.html) < 60 * MOST_POINTS


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    run.incidents_log.unlink()
    run.incidents_log.mkdir()
    with pytest.raises(RunError, match="incidents"):
        gather_report(run, device=None)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_any_number_of_channels_is_a_picture(tmp_path: Path, channels: int) -> None:
    report = whole_report(tmp_path)
    assert report.trajectory is not None
    moments = tuple(replace(at, images=at.images.repeat(channels, axis=1)) for at in report.trajectory.moments)
    page = page_of(replace(report, trajectory=replace(report.trajectory, moments=moments)))
    assert len(page.all("img")) == 6
