"""Train and sample denoising diffusion models.

From Python, as from the command line:

    import ddpm_cli

    run = ddpm_cli.train("quick", minutes=5)
    model = ddpm_cli.load(run)
    images = model.sample(36)                     # [N, H, W, C], uint8 unless the data were deeper
    ddpm_cli.make_grid(images).save("grid.png")
    print(ddpm_cli.evaluate(run, "fcd")[0].value)

Whatever goes wrong is a `DdpmError`, whose text says what to do. The names below are the public interface; they are imported when
they are first used, so that `import ddpm_cli` alone costs nothing.
"""

from typing import TYPE_CHECKING

from ddpm_cli._version import __version__ as __version__

__all__ = [
    "DdpmError",
    "Figure",
    "Images",
    "Model",
    "NoiseSchedule",
    "Run",
    "Tuning",
    "compare",
    "distill",
    "ema",
    "evaluate",
    "events",
    "export",
    "find_run",
    "load",
    "load_images",
    "make_grid",
    "make_schedule",
    "q_sample",
    "resume",
    "speedrun",
    "sweep",
    "train",
    "tune_sampler",
]

if TYPE_CHECKING:
    from ddpm_cli.api.averages import ema
    from ddpm_cli.api.evaluation import evaluate
    from ddpm_cli.api.experiments import compare, speedrun, sweep
    from ddpm_cli.api.exporting import export
    from ddpm_cli.api.material import Images, load_images, make_grid, make_schedule
    from ddpm_cli.api.model import Model, load
    from ddpm_cli.api.training import Run, distill, find_run, resume, train
    from ddpm_cli.api.tuning import tune_sampler
    from ddpm_cli.diffusion.forward import q_sample
    from ddpm_cli.diffusion.schedules import NoiseSchedule
    from ddpm_cli.errors import DdpmError
    from ddpm_cli.results import events
    from ddpm_cli.results.figure import Figure
    from ddpm_cli.results.tuning import Tuning
else:
    _HOMES = {
        "ddpm_cli.api.averages": ("ema",),
        "ddpm_cli.api.evaluation": ("evaluate",),
        "ddpm_cli.api.experiments": ("compare", "speedrun", "sweep"),
        "ddpm_cli.api.exporting": ("export",),
        "ddpm_cli.api.material": ("Images", "load_images", "make_grid", "make_schedule"),
        "ddpm_cli.api.model": ("Model", "load"),
        "ddpm_cli.api.training": ("Run", "distill", "find_run", "resume", "train"),
        "ddpm_cli.api.tuning": ("tune_sampler",),
        "ddpm_cli.diffusion.forward": ("q_sample",),
        "ddpm_cli.diffusion.schedules": ("NoiseSchedule",),
        "ddpm_cli.errors": ("DdpmError",),
        "ddpm_cli.results.figure": ("Figure",),
        "ddpm_cli.results.tuning": ("Tuning",),
    }

    def __getattr__(name):
        """A public name, imported when it is first used; hidden from type checkers, which would take it to know any name."""
        from importlib import import_module

        if name == "events":
            return import_module("ddpm_cli.results.events")
        home = next((home for home, names in _HOMES.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module 'ddpm_cli' has no attribute {name!r}")
        return getattr(import_module(home), name)

    def __dir__():
        return [*globals(), *__all__]
