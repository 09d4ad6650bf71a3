"""Run `ddpm doctor`."""

from __future__ import annotations

from ddpm_cli.cli.parsing.options import JsonOption


def doctor(json: JsonOption = False) -> None:
    """Say what works on this machine, what is missing, and how to get it.

    The command lists versions, devices (each is tried), compilers, optional extras with their install lines, folders, and data
    sets.

    The exit status is 1 if something is broken that should work. A missing extra is not broken.

    For example:

      ddpm doctor

      ddpm doctor --json
    """
    from ddpm_cli.bench.doctor import examine
    from ddpm_cli.errors import DdpmError
    from ddpm_cli.render.terminal.console import print_json
    from ddpm_cli.render.terminal.overview import findings_json, show_findings

    findings = list(examine())
    if json:
        print_json(findings_json(findings))
    else:
        show_findings(findings)
    if broken := [finding.name for finding in findings if finding.state == "broken"]:
        raise DdpmError(f"Not everything works here: {', '.join(broken)}.", "What to do stands with each of them.")
