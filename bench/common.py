"""The harness of all comparisons: what one is told, what it gives back, where its figures are kept and shown."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onetrunk.core.errors import UsageError, unknown

if TYPE_CHECKING:
    from onetrunk.core.events import Listener
    from onetrunk.training.context import RunContext
    from onetrunk.training.open_data import Data
    from onetrunk.training.recipe import Recipe

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results"
UNFINISHED = HERE / "unfinished"  # the parts of comparisons that were stopped; git ignores it
DOCS = ROOT / "docs" / "benchmarks.md"
# Modules here that are no comparisons.
_SHARED = {
    "adaptation",
    "common",
    "draw",
    "forecasts",
    "litserve_api",
    "large",
    "load",
    "peers",
    "planted",
    "private_rows",
    "recommend",
    "rival_servers",
    "served",
    "shakespeare",
    "speed",
    "tables",
    "torchrun",
    "translate",
}


class AbsentData(Exception):
    """The data of a comparison are not on this machine."""


@dataclass(frozen=True)
class Run:
    """What a comparison's `compare(run)` is told."""

    name: str
    split: str  # test, or val while building
    seed: int
    settings: list[str]  # key=value, over the comparison's own
    rival: bool  # is the rival wanted?
    place: Path  # a temporary folder
    on_event: Listener  # what is told while it runs

    def data(self) -> Path:
        """The folder of the data of this name. Raises AbsentData."""
        return data_folder(self.name)

    def part(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `make` gives, as JSON holds it; kept (`unfinished`), and not made again."""
        path = self.unfinished / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        made = json.loads(json.dumps(make()))
        path.write_text(json.dumps(made), encoding="utf-8")
        return made

    @cached_property
    def unfinished(self) -> Path:
        """The folder of finished parts, kept until the comparison ends, so that one that was stopped goes on from there
        when it is called again: with the same settings, at the same commit with nothing changed. Else it is empty."""
        changed = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, check=False).stdout
        chosen = (self.split, self.seed, self.settings, self.rival)
        folder = UNFINISHED / self.name / f"{versions().get('commit')} {zlib.crc32(repr(chosen).encode()):08x}"
        if changed:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def config(self, settings: dict[str, Any]) -> tuple[Recipe, int]:
        """The run's configuration, and `ensemble`: how many models (seeds) are averaged. In fp32 unless told otherwise:
        what `auto` takes depends on the machine, and a comparison is to be repeated on others."""
        from onetrunk.core.config import with_settings
        from onetrunk.training.recipe import Recipe

        settings = {**settings, "train": {"precision": "fp32", **settings.get("train", {})}}
        chosen = with_settings(settings, self.settings)
        members = chosen.pop("ensemble", 1)
        if not isinstance(members, int) or members < 1:
            raise UsageError(f"ensemble expects a whole number from 1, found {members!r}.")
        return Recipe.parse(chosen, f"the settings of {self.name}"), members

    def open(self, table: Any, config: Recipe, split: str = "given:split", **options: Any) -> Data:
        """The table opened for training; equal rows may stand on both sides of a split that others made."""
        from onetrunk.training.open_data import open_data
        from onetrunk.training.options import DataOptions

        chosen = DataOptions(split=split, seed=self.seed, allow_equal_rows=True, **options)
        return open_data(table, chosen, config, self.on_event)

    def context(self, config: Recipe, place: Path, seed: int | None = None, max_bad: float = 0.01) -> RunContext:
        """What a stage of training needs; the seed is the run's, unless told."""
        from onetrunk.training.context import RunContext

        return RunContext(config, place, self.seed if seed is None else seed, max_bad, on_event=self.on_event)


@dataclass
class Figures:
    """What `compare` gives back. Intervals are 95 %; `difference` is ours minus the rival's; of speeds, `ratio` is how
    many times faster than the rival ours is."""

    ours: float
    interval: list[float] | None  # of ours
    unit: str
    rival_name: str
    rival: float | None  # None: not wanted
    split: dict[str, Any]
    without_pretraining: float | None = None
    also: dict[str, Any] = field(default_factory=dict)
    ratio: float | None = None


def comparisons() -> dict[str, str]:
    """The comparisons' names, and one line on each: the first of its docstring."""
    names = sorted(p.stem for p in HERE.glob("[a-z]*.py") if p.stem not in _SHARED)
    return {name: importlib.import_module(f"bench.{name}").__doc__.partition("\n")[0] for name in names}


def data_folder(name: str) -> Path:
    """`ONETRUNK_DATA`, or `../shared/data` beside the repository. Raises AbsentData."""
    folder = Path(os.environ.get("ONETRUNK_DATA") or ROOT.parent / "shared" / "data") / name
    if not folder.is_dir():
        shown = folder if "ONETRUNK_DATA" in os.environ else f"../shared/data/{name}"
        raise AbsentData(f"There is no folder {shown}; ONETRUNK_DATA names the folder that holds {name}.")
    return folder


def quick_settings(name: str) -> list[str]:
    """Of a comparison's small run: its `QUICK`. Raises UsageError where it has none."""
    if name not in comparisons():
        raise unknown("comparison", name, comparisons())
    found: list[str] | None = getattr(importlib.import_module(f"bench.{name}"), "QUICK", None)
    if found is None:
        raise UsageError(f"{name} has no small run: leave --quick out.")
    return found


def run(
    name: str, split: str = "test", seed: int = 0, settings: list[str] | None = None, rival: bool = True
) -> dict[str, Any]:
    """Runs one comparison. A plain run on the test split, one that the name alone repeats, is kept in bench/results."""
    from onetrunk.verbs.show import Printer

    if name not in comparisons():
        raise unknown("comparison", name, comparisons())
    settings = settings or []
    compare = importlib.import_module(f"bench.{name}").compare
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        try:
            found = compare(Run(name, split, seed, settings, rival, Path(place), Printer()))
        except AbsentData as error:
            print(error, file=sys.stderr)
            return {"name": name, "absent": str(error)}
    shutil.rmtree(UNFINISHED / name, ignore_errors=True)
    result = record(name, found, seed, time.monotonic() - start)
    if split == "test" and not settings and rival:
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")
    else:
        print("Not kept: a trial, or not on the test split.", file=sys.stderr)
    return result


def record(name: str, found: Figures, seed: int, seconds: float) -> dict[str, Any]:
    """The JSON object of a comparison."""
    figures = asdict(found)
    also = figures.pop("also")
    difference = None if found.rival is None else found.ours - found.rival
    made = {"seconds": seconds, "machine": machine(), "versions": versions(), "seed": seed}
    return _rounded({"name": name, "difference": difference, **figures, **made, "also": also})


def machine() -> str:
    """The machine in words, without its name."""
    import torch

    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no accelerator"
    return f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {memory:.0f} GiB, {device}"


def versions() -> dict[str, str]:
    import onetrunk

    found = {"onetrunk": onetrunk.__version__, "python": platform.python_version()}
    found |= {package: importlib.metadata.version(package) for package in ("torch", "numpy", "scikit-learn")}
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return found | ({"commit": git.stdout.strip()} if git.returncode == 0 else {})


def _rounded(value: Any) -> Any:
    """Five decimals: more than any interval here is narrow."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else value


# -- docs/benchmarks.md ----------------------------------------------------------------------------------------------
def write_docs() -> str:
    """Makes docs/benchmarks.md from bench/results; returns what was done, in words."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    DOCS.parent.mkdir(exist_ok=True)
    DOCS.write_text(docs(results, comparisons()), encoding="utf-8")
    return f"{DOCS.relative_to(ROOT)}: {len(results)} comparisons"


def docs(results: list[dict[str, Any]], lines: dict[str, str]) -> str:
    """The page: one table of all results, then what is known of each."""
    out = [
        "# Benchmarks",
        "",
        "Made by `python -m bench --docs` from `bench/results`; `python -m bench NAME` runs one again. Ours and rival",
        "run on the same rows in one run. Brackets hold 95 % intervals (bootstrap).",
        "",
        "| data | unit | rival | ours | difference | without pretraining | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in results:
        rival = f"{r['rival_name']}: {r['rival']:.4g}"
        ours = f"**{r['ours']:.4g}**{_brackets(r['interval'])}"
        difference = f"{r['difference']:+.4f}{_brackets(r['also'].get('difference_interval'), '+.4f')}"
        if r.get("ratio") is not None:
            difference = f"{r['ratio']:.2f} times as fast"
        without = "" if r["without_pretraining"] is None else f"{r['without_pretraining']:.4g}"
        cells = [
            f"[{r['name']}](#{r['name']})",
            r["unit"],
            rival,
            ours,
            difference,
            without,
            f"{r['seconds'] / 60:.1f}",
        ]
        out.append(f"| {' | '.join(cells)} |")
    missing = [name for name in lines if name not in {r["name"] for r in results}]
    if missing:
        out += ["", f"Not run yet: {', '.join(missing)}."]
    for r in results:
        out += ["", f"## {r['name']}", "", lines.get(r["name"], ""), ""]
        out += [f"- {name.replace('_', ' ')}: {_plain(r[name])}" for name in ("split", "seed", "machine", "versions")]
        out += [f"- {name.replace('_', ' ')}: {_plain(v)}" for name, v in r["also"].items() if not _is_table(v)]
        for name, value in r["also"].items():
            out += ["", *_table(name, value)] if _is_table(value) else []
    return "\n".join(out) + "\n"


def _is_table(value: Any) -> bool:
    """Several things of which the same is known?"""
    few = isinstance(value, dict) and len(value) > 1 and all(isinstance(each, dict) for each in value.values())
    return (
        few and len({tuple(_cells(each)) for each in value.values()}) == 1 and bool(_cells(next(iter(value.values()))))
    )


def _cells(row: dict[str, Any]) -> dict[str, str]:
    """What of a row fits in a line: its numbers and words, not what is nested; brackets are intervals."""
    plain = {name: value for name, value in row.items() if not isinstance(value, dict | list)}
    pairs = {name: value for name, value in row.items() if isinstance(value, list) and len(value) == 2}
    shown = {
        name: "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        for name, value in plain.items()
    }
    return shown | {name: _brackets(value).strip() for name, value in pairs.items() if isinstance(value[0], float)}


def _table(title: str, rows: dict[str, dict[str, Any]]) -> list[str]:
    """In Markdown."""
    names = list(_cells(next(iter(rows.values()))))
    head = [title.replace("_", " "), *(name.replace("_", " ") for name in names)]
    body = [[name, *_cells(row).values()] for name, row in rows.items()]
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body)]


def _brackets(ends: list[float] | None, form: str = ".4g") -> str:
    return "" if ends is None else f" [{ends[0]:{form}}, {ends[1]:{form}}]"


def _plain(value: Any) -> str:
    """A JSON value as words."""
    if isinstance(value, dict):
        return ", ".join(f"{k.replace('_', ' ')} {_plain(v)}" for k, v in value.items() if v not in (None, [], {}))
    if isinstance(value, list):  # texts as code: SMILES look like links
        return "[" + ", ".join(f"`{v}`" if isinstance(v, str) else _plain(v) for v in value) + "]"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if value >= 10_000 else str(value)
    return str(value)
