"""Makes the model folders that later versions must be able to open, and writes down what they answer.

    PYTHONPATH=src:tests python tests/golden/make.py

Run it only for a new folder format, into a folder of that format's number: those of older formats stay as they are.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import worlds

from onetrunk.core.calibration import Calibration
from onetrunk.core.module import Calibrated
from onetrunk.data.event_rows import EventsConfig
from onetrunk.data.ledger import Ledger
from onetrunk.data.table import Table
from onetrunk.inference.model_folder import Model, Task
from onetrunk.model.wide import WideReadout
from onetrunk.storage import atomic
from onetrunk.training.wide import fit_wide, wide_rows

HERE = Path(__file__).parent
FEW_TREES = 9
TRUNK = {"kind": "transformer", "width": 16, "layers": 1, "heads": 2}
ROWS: dict[str, list[Any]] = {
    "note": ["red boat", "green tree", "a boat", None, "green, green!", "白猫", "a red tree", "boat"] * 10,
    "price": [1.5, None, -3.0, 12.25, 0.0, 7.0, 2.5, 4.0] * 10,
    "day": ["2024-01-05", "2024-02-29", None, "2023-12-31", "2024-07-01", "2024-03-03", "2024-04-04", "2024-05-05"]
    * 10,
    "tags": [["new"], ["new", "old"], [], ["old"], ["old", "rare"], ["rare"], ["new"], []] * 10,
    "kind": ["warm", "cold", "warm", "cold", "cold", "cold", "warm", "mild"] * 10,
}
SOLD: dict[str, list[Any]] = {
    "shop": [shop for shop in "ab" for _ in range(12)],
    "day": [f"2024-01-{day:02d}" for _ in "ab" for day in range(1, 13)],
    "sold": [round(10 * shop + 3 * np.sin(day) + day / 4, 2) for shop in (1, 2) for day in range(12)],
}


def table() -> Model:
    """Text, numbers, dates, one class and several; an answer with a wide read-out, and calibrated."""
    types = {"note": "text", "price": "number", "day": "date", "tags": "category", "kind": "category"}
    options = {"note": {"unit": "character", "length": 16}}
    model = worlds.model(ROWS, types, options=options, trunk=TRUNK)
    model.tasks = [Task(["note", "price", "day", "tags"], ["kind"]), Task(["note", "kind"], ["price", "note"])]
    store = worlds.store_of(model, ROWS)
    rows = wide_rows(store, ["note", "tags"], "kind", np.arange(len(store.index)))
    fitted = fit_wide(rows)
    assert fitted is not None
    model.network.add_wide("kind", _with_few_trees(fitted.readout))
    kind = model.module("kind")
    assert isinstance(kind, Calibrated)
    kind.calibration = Calibration(rows=8, fitted_on="validation rows", temperature=1.5, doubt=0.05)
    return model


def _with_few_trees(readout: WideReadout) -> WideReadout:
    """So that the folder stays small: all that is of one tree has the trees as its first axis."""
    assert readout.shape.trees is not None
    count, nodes, depth = readout.shape.trees
    small = WideReadout(replace(readout.shape, trees=(FEW_TREES, nodes, depth)))
    per_tree = {f"trees.{name}" for name, buffer in readout.trees.named_buffers() if len(buffer) == count}
    state = readout.state_dict()
    small.load_state_dict({name: x[:FEW_TREES] if name in per_tree else x for name, x in state.items()})
    return small


def events() -> Model:
    """A series made of a table of events."""
    config = EventsConfig(by=["shop"], order="day", window=8, ahead=2)
    model = worlds.model(_histories(config), {"sold": "series"}, options={"sold": {"horizon": 2}}, trunk=TRUNK)
    model.tasks, model.events = [Task([], ["sold"])], config
    return model


def _histories(config: EventsConfig) -> dict[str, Any]:
    from onetrunk.data.event_rows import rows_from_events

    rows = rows_from_events(Table(dict(SOLD)), config, ["sold"], split=None, ledger=Ledger())
    return {"sold": rows["sold"]}


MODELS = {"table": table, "events": events}


def answers(model: Model, name: str) -> dict[str, list[Any]]:
    """Of every task, as JSON."""
    rows = {k: v[:8] for k, v in ROWS.items()} if name == "table" else SOLD
    frames = [model.predict({k: v for k, v in rows.items() if name == "events" or k not in task.ask}, task.ask)
              for task in model.tasks]  # fmt: skip
    return {column: _plain(frame[column]) for frame in frames for column in frame.columns}


def _plain(values: pd.Series) -> list[Any]:
    return json.loads(json.dumps(values.tolist(), default=lambda v: v.tolist() if hasattr(v, "tolist") else str(v)))


def make(folder: Path) -> None:
    for name, build in MODELS.items():
        torch.manual_seed(0)
        model = build()
        shutil.rmtree(folder / name, ignore_errors=True)
        model.save(folder / name)
        (folder / f"{name}-answers.json").write_text(
            json.dumps(answers(model, name), ensure_ascii=False, indent=1) + "\n"
        )


if __name__ == "__main__":
    make(HERE / f"format-{atomic.FORMAT}")
