"""Plant each bug in turn and count the seeds until the simulation finds it.

python -m tools.prove            # each within 500 seeds
python -m tools.prove --within 50 answer_before_commit
"""

import argparse
import sys

from tests.simulation.planted import PLANTED, planted
from tests.simulation.script import draw
from tests.simulation.shrink import attempt


def main() -> int:
    """The exit code: 0 when every bug was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="which bugs; all of them where none is named")
    parser.add_argument("--within", type=int, default=500, help="seeds")
    options = parser.parse_args()
    missed = 0
    for name in options.names or PLANTED:
        found = seeds_until_found(name, options.within)
        missed += found is None
        told = f"not found within {options.within} seeds" if found is None else f"seed {found[0]}: {found[1]}"
        print(f"{name.replace('_', ' ')}: {told}", flush=True)
    return 1 if missed else 0


def seeds_until_found(name: str, within: int) -> tuple[int, str] | None:
    """The first seed that finds a planted bug, and what it says."""
    with planted(name):
        for seed in range(within):
            result = attempt(draw(seed))
            if result.violations:
                return seed, result.violations[0].splitlines()[-1][:200]
    return None


if __name__ == "__main__":
    sys.exit(main())
