"""python -m bench NAME: runs one comparison, ours and the rival, and prints its figures as one JSON object."""

from __future__ import annotations

import argparse
import json
import sys

from bench import common
from onetrunk.core.errors import OnetrunkError


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 also where the data are absent, which is said."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="?", help="a comparison of --list")
    parser.add_argument("--list", action="store_true", help="name the comparisons")
    parser.add_argument("--docs", action="store_true", help="make docs/benchmarks.md from bench/results")
    parser.add_argument("--split", choices=("test", "val"), default="test", help="val while building: nothing is kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE",
                        help="try another setting, like pretrain.steps=20: nothing is kept")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a small run, where there is one: nothing is kept")
    parser.add_argument("--no-rival", action="store_true", help="ours only: nothing is kept")
    told = parser.parse_args(arguments)
    if told.list:
        for name, line in common.comparisons().items():
            print(f"{name:<20} {line}")
    elif told.docs:
        print(common.write_docs())
    elif told.name is None:
        parser.error("name a comparison, or use --list or --docs")
    else:
        try:
            settings = (common.quick_settings(told.name) if told.quick else []) + told.settings
            found = common.run(told.name, told.split, told.seed, settings, not told.no_rival)
        except OnetrunkError as error:
            print(f"bench: {error}", file=sys.stderr)
            return error.exit_code
        print(json.dumps(found, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
