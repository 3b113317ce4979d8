"""Mutation testing of the rules, and of the code of intents and leases: does a test notice each small change?

python -m tools.mutants                      # goes on where it was
python -m tools.mutants core/fold.py store   # some modules
python -m tools.mutants --anew               # forget all verdicts; try the explained ones too

One process imports everything, runs the tests once and notes which lines each runs. Then each mutant gets a fork
of it: there its code is put in place, and the tests that run its line are tried, the cheap first, until one fails.
Survivors are explained in tests/mutants.txt: the mutant's name, and indented below it why no test need tell it
from the original. Verdicts are kept in .mutants.json; of one kept, tests are tried again that have changed since.
"""

import argparse
import os
import sys

from tools.mutants_kept import TARGETS, Verdicts
from tools.mutants_trial import Trial, passes
from tools.mutation import mutants


def main() -> int:
    """The exit code: 0 when few enough survive, and none unexplained where none may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "modules", nargs="*", help="modules or folders below src/counterfoil; all where none is named"
    )
    parser.add_argument("--anew", action="store_true", help="forget all verdicts, and try what is explained too")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants tried at a time")
    options = parser.parse_args()
    chosen = [
        module
        for module in TARGETS
        if not options.modules or any(module.startswith(each) for each in options.modules)
    ]
    verdicts = Verdicts(anew=options.anew)
    for tests in dict.fromkeys(TARGETS[module] for module in chosen):
        found = [each for module in chosen if TARGETS[module] == tests for each in mutants(module)]
        owed = [each for each in found if verdicts.is_owed(each, tests)]
        if owed and not passes(Trial(owed, tests, verdicts, options.jobs)):
            print("the tests do not pass as they are")
            return 2
        verdicts.load()
    return verdicts.report(chosen)


if __name__ == "__main__":
    sys.exit(main())
