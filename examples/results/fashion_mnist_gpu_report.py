"""Tables and the curve of what `fashion_mnist_gpu.py` has measured so far; what is missing is left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Figures = dict[str, dict[str, Any]]
Cells = Sequence[object]

METRICS = ("fid", "kid", "precision", "recall", "fcd")
TARGETS = ((3, 5.0), (10, 3.0))
"""Minutes of training, and the FID-50k that is asked for by then."""


def write_report(out: Path, n: int) -> None:
    """Write results.md, results.json and curve.png from the answers in `out`/figures.

    Args:
        out: Folder of the study.
        n: Samples of the figures that are judged.
    """
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((out / "figures").glob("*.json"))}
    runs = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("runs/*/run.json"))}
    parts = [
        of_runs(out, runs),
        verdicts(found, n),
        of_curve(found, n),
        of_samplers(found),
        of_held_out(found),
        *(of_bench(name.removeprefix("bench-"), answer["answer"]) for name, answer in found.items() if name.startswith("bench-")),
        of_commands(runs, found),
    ]
    (out / "results.md").write_text("\n\n".join(["# Fashion-MNIST on a GPU", *filter(None, parts)]) + "\n", encoding="utf-8")
    (out / "results.json").write_text(json.dumps({"runs": runs, "answers": found}, indent=1) + "\n", encoding="utf-8")
    if curve_points(found):
        draw_curve(curve_points(found), out / "curve.png")


# -------------------------------------------------------------------------------------------------------------- tables


def of_runs(out: Path, runs: dict[str, dict[str, Any]]) -> str:
    rows = []
    for name, run in runs.items():
        last = json.loads((out / "runs" / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        speed, packages = last.get("images_per_second", 0), run["packages"]
        device = run["device_name"] or run["device"]
        rows.append(
            (
                name,
                device,
                packages["torch"],
                {"no": "fp32"}.get(run["precision"], run["precision"]),
                last["step"],
                last["images"],
                last["seconds"] / 60,
                speed,
            )
        )
    heading = ("run", "device", "torch", "precision", "steps", "images", "minutes", "images/s, of training alone")
    return section("Training", table(heading, rows))


def verdicts(found: Figures, n: int) -> str:
    rows = []
    for minutes, limit in TARGETS:
        for run, after, _, _, fid in curve_points(found):
            if after == minutes:
                rows.append((f"FID after {minutes} minutes, {run} run", f"at most {limit:g}", fid))
    fids = {(row["sampler"], row["steps"]): row["fid"] for row in sample_rows(found) if row["n"] == n and "fid" in row}
    for steps, limit in ((20, 1.05), (10, 1.15)):
        if ("dpm-solver++", steps) in fids:
            ratio = fids["dpm-solver++", steps] / min(fids.values())
            rows.append((f"FID of DPM-Solver++ in {steps} steps over the best sampler's", f"at most {limit:g}", ratio))
    for case in found.get("bench-cifar10", {}).get("answer", {}).get("cases", []):
        speed = case["training"]["per_second"]["median"]
        rows.append((f"35.7M network, {case['precision']}, batch {case['batch_size']}: training images/s", "at least 8,000", speed))
    for duel in found.get("bench-cifar10", {}).get("answer", {}).get("duels", []):
        if duel["work"] == "training":
            what = f"35.7M network, {duel['precision']}, batch {duel['batch_size']}: training speed over {duel['peer']}' own loop"
            rows.append((what, "at least 2", duel["ratio"]["median"]))
    return section("Asked and found", table(("what", "asked", "found"), rows)) if rows else ""


def of_curve(found: Figures, n: int) -> str:
    rows = [(run, minutes, step, fid) for run, _, minutes, step, fid in curve_points(found)]
    text = (
        f"FID of {n:,} samples against all training images, EMA weights, DPM-Solver++ in 20 steps. The learning rate of the long "
    )
    text += "run falls until its end, that of the short run until its own.\n\n![FID over minutes of training](curve.png)\n\n"
    return section("FID over training", text + table(("run", "minutes", "step", "FID"), rows)) if rows else ""


def of_samplers(found: Figures) -> str:
    rows, floors = sample_rows(found), {}
    for answer in of_kind(found, "samples-"):
        floors |= {
            (figure["metric"], figure["floor_n"]): figure["floor"]
            for figure in answer["answer"]["figures"]
            if figure["floor"] is not None
        }
    cells = [(row["sampler"], row["steps"], row["n"], *(row.get(metric, "") for metric in METRICS)) for row in rows]
    for n in sorted({n for _, n in floors}):
        cells.append(("real test images", "", n, *(floors.get((metric, n), "") for metric in METRICS)))
    notes = sorted(
        {note for answer in of_kind(found, "samples-") for figure in answer["answer"]["figures"] for note in figure["notes"]}
    )
    heading = ("sampler", "steps", "n", "FID", "KID", "precision", "recall", "fcd")
    return section("Samplers and steps", "\n".join([table(heading, cells), "", *(f"- {note}" for note in notes)])) if rows else ""


def of_held_out(found: Figures) -> str:
    figures = [figure for answer in of_kind(found, "held-out-") for figure in answer["answer"]["figures"]]
    rows = [(figure["metric"], figure["value"], figure["standard_error"] or "", figure["n"]) for figure in figures]
    notes = [f"- {note}" for figure in figures for note in figure["notes"]]
    text = "\n".join([table(("metric", "value", "standard error", "n"), rows), "", *notes])
    return section("Likelihood and memorisation", text) if rows else ""


def of_bench(name: str, answer: dict[str, Any]) -> str:
    network, machine = answer["network"], answer["machine"]
    text = f"{machine['name']}; {network['parameters']:,} parameters, {network['flops_per_image'] / 1e9:.3g} GFLOP per image.\n\n"
    rows = [
        (case["precision"], case["batch_size"], work, *speeds(case[work]), case["memory_bytes"] / 2**30)
        for case in answer["cases"]
        for work in ("training", "sampling")
    ]
    heading = ("precision", "batch", "work", "images/s or evaluations/s", "TFLOP/s", "of conv", "of GEMM", "GiB")
    duels = [
        (
            duel["peer"],
            duel["precision"],
            duel["batch_size"],
            duel["work"],
            *(duel[key]["median"] for key in ("ours", "theirs", "ratio")),
        )
        for duel in answer["duels"]
    ]
    against = table(("against", "precision", "batch", "work", "ours", "theirs", "ratio"), duels)
    notes = [f"- {note}" for note in answer["notes"]]
    return section(f"Speed: {name}", "\n".join([text + table(heading, rows), "", against, "", *notes]))


def speeds(speed: dict[str, Any]) -> tuple[float, ...]:
    shares = (speed["of_convolution_peak"]["median"], speed["of_gemm_peak"]["median"])
    return (speed["per_second"]["median"], speed["gflops"]["median"] / 1000, *shares)


def of_commands(runs: dict[str, dict[str, Any]], found: Figures) -> str:
    trained = [" ".join(["ddpm", *run["command"][1:]]) for run in runs.values()]
    return section("Commands", "\n".join(["```bash", *trained, *(answer["command"] for answer in found.values()), "```"]))


# -------------------------------------------------------------------------------------------------------------- figures


def of_kind(found: Figures, prefix: str) -> list[dict[str, Any]]:
    return [answer for name, answer in found.items() if name.startswith(prefix)]


def curve_points(found: Figures) -> list[tuple[str, float, float, int, float]]:
    """Run, minutes it was asked for, minutes of training, step and FID of each checkpoint that was measured."""
    answers = sorted(of_kind(found, "curve-"), key=lambda answer: (answer["run"], answer["minutes"]))
    return [
        (one["run"], one["after"], one["minutes"], one["answer"]["step"], one["answer"]["figures"][0]["value"]) for one in answers
    ]


def sample_rows(found: Figures) -> list[dict[str, Any]]:
    """One mapping for each sampler, number of steps and n: these, and the metrics by name; the most samples first."""
    rows = []
    for answer in of_kind(found, "samples-"):
        figures = answer["answer"]["figures"]
        facts = {"sampler": figures[0]["details"]["sampler"], "steps": figures[0]["details"]["steps"], "n": figures[0]["n"]}
        rows.append(facts | {figure["metric"]: figure["value"] for figure in figures})
    return sorted(rows, key=lambda row: (-row["n"], row["sampler"], row["steps"]))


def draw_curve(points: Sequence[tuple[str, float, float, int, float]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="minutes of training", ylabel="FID", title="FID of the EMA weights", yscale="log")
    for run in dict.fromkeys(point[0] for point in points):
        own = [point for point in points if point[0] == run]
        axes.plot([point[2] for point in own], [point[4] for point in own], marker="o", label=f"{run} run")
    axes.plot(*zip(*TARGETS, strict=True), "kv", fillstyle="none", label="asked for")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=120)


# ------------------------------------------------------------------------------------------------------------ Markdown


def section(title: str, text: str) -> str:
    return f"## {title}\n\n{text.strip()}"


def table(heading: Sequence[str], rows: Sequence[Cells]) -> str:
    """A Markdown table; nothing without rows."""
    if not rows:
        return ""
    lines = [heading, ["---"] * len(heading), *([cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: object) -> str:
    """A whole number with its thousands, another with four significant digits."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
