"""Feed every reader thousands of mutated inputs: none may raise anything but an error with a message, hang, or write elsewhere.

python tests/soak/fuzz.py [INPUTS] [FIRST SEED] [READER ...]     10000 inputs from seed 0 for each reader unless told otherwise
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from fuzzing import Attack, attack, attacks, written_outside
from fuzzing_archives import archive_attacks
from fuzzing_formats import format_attacks
from fuzzing_pipelines import pipeline_attacks
from fuzzing_runs import run_attacks


def main() -> int:
    """Attack all readers; the exit status is 1 if there was a failure."""
    inputs, first = (int(sys.argv[place]) if len(sys.argv) > place else usual for place, usual in ((1, 10_000), (2, 0)))
    failed = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, _prepared(Path(folder)) as (all_attacks, outside):
        for name in sys.argv[3:] or all_attacks:
            one = all_attacks[name]
            started = time.monotonic()
            outcome = attack(one, range(first, first + inputs))
            seconds = time.monotonic() - started
            counts = ", ".join(f"{what} {count:,}" for what, count in outcome.counts.most_common())
            print(f"{name}: {inputs:,} inputs, {len(outcome.failures)} failures; {counts}; {seconds:.0f} s", flush=True)
            for failure in outcome.failures[:10]:
                print(f"  {failure}", flush=True)
            failed += len(outcome.failures)
    print(f"opened for writing, made, moved or removed outside the scratch folder: {sorted(outside) or 'nothing'}")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB, torch and all")
    return int(bool(failed or outside))


@contextmanager
def _prepared(folder: Path) -> Iterator[tuple[dict[str, Attack], set[str]]]:
    # Before the watch begins, because torch makes a cache of its own meanwhile.
    prepared = attacks(folder) | run_attacks(folder) | format_attacks(folder) | archive_attacks(folder) | pipeline_attacks(folder)
    with written_outside(folder) as outside:
        yield prepared, outside


if __name__ == "__main__":
    sys.exit(main())
