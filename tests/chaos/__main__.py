"""`make chaos`: all of the chaos suite, with a seed; ends with a table.

    make chaos ARGS="--seed 7"
    make chaos ARGS="-k 'redis or replica'"

Every other argument goes to pytest.
"""

from __future__ import annotations

import argparse
import os
import random
import sys

import pytest


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make chaos", description="Kill, freeze and cut everything; see what is lost."
    )
    parser.add_argument("--seed", type=int, help="what all chances are drawn from; by default a new one")
    parser.add_argument("--short", action="store_true", help="only the part that is in `make test` too")
    options, rest = parser.parse_known_args()
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    os.environ["RYLA_CHAOS_SEED"] = str(seed)
    if not options.short:
        os.environ["RYLA_CHAOS"] = "whole"
    print(f"chaos with seed {seed}; again with ARGS='--seed {seed}'", flush=True)
    return pytest.main(["tests/chaos", "-q", *rest])


if __name__ == "__main__":
    sys.exit(main())
