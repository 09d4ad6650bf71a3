"""Run `ddpm report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddpm_cli.cli.parsing.options import DeviceOption, JsonOption, NoLimitsOption, ResumeArgument, path_of

if TYPE_CHECKING:
    from ddpm_cli.runs.report import RunReport
    from ddpm_cli.runs.run_directory import RunDirectory


def report(
    run: ResumeArgument = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", parser=path_of("--out"), metavar="FILE", help="The HTML file. RUN.html if left out.", show_default=False
        ),
    ] = None,
    trajectory: Annotated[
        bool, typer.Option("--trajectory/--no-trajectory", help="Draw one denoising from the newest checkpoint.")
    ] = True,
    device: DeviceOption = None,
    no_limits: NoLimitsOption = False,
    json: JsonOption = False,
) -> None:
    """Write all that a run tells into one HTML file.

    The file has curves, samples over training, a denoising, metrics, config and provenance. It needs no network, and no other
    file. Curves show their numbers where the mouse is. The sliders take the arrow keys.

    The file holds plotly, which draws the curves (about 5 MB). The command needs: pip install 'ddpm-cli[report]'

    For example:

      ddpm report quick-001

      ddpm report runs/quick-001 --out report.html

      ddpm report --no-trajectory --json
    """
    import time

    from ddpm_cli.core.compute.device import check_device
    from ddpm_cli.core.extras import require_packages
    from ddpm_cli.core.io.files import require_writable_parent
    from ddpm_cli.render.html.page import save_report
    from ddpm_cli.render.terminal.console import print_json, show_line
    from ddpm_cli.runs.directory import find_run

    require_packages("A report", "report", "plotly", "jinja2")
    found = find_run(Path("runs"), run)
    out = Path(f"{found.name}.html") if out is None else out
    require_html_name(out)
    require_writable_parent(out)
    if trajectory:
        check_device(device or "auto")
    show_line("run:", "cyan", str(found.path))
    told = gather(found, (device or "auto") if trajectory else None, no_limits)
    size = save_report(told, out, time.time())
    show_line("wrote:", "green", f"{out} ({size / 1e6:.1f} MB)")
    if json:
        print_json(
            {
                "run": found.path,
                "step": told.run.step,
                "file": out,
                "bytes": size,
                "grids": len(told.grids),
                "moments": len(told.trajectory.moments) if told.trajectory else 0,
                "figures": len(told.figures),
                "incidents": len(told.incidents),
            }
        )


def require_html_name(path: Path) -> None:
    """Refuse a name that no browser opens as a page.

    Raises:
        OutputError: Naming the suffix to use.
    """
    from ddpm_cli.errors import OutputError

    if path.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"Cannot write {path}: a report is an HTML page.", "Give --out a name that ends in .html.")


def gather(run: RunDirectory, device: str | None, no_limits: bool) -> RunReport:
    """Read a run and draw a denoising, with a bar; none where there is no device."""
    from ddpm_cli.experiments.report import gather_report
    from ddpm_cli.render.terminal.sampling import SamplingView

    with SamplingView() as view:
        return gather_report(run, device=device, no_limits=no_limits, on_event=view)
