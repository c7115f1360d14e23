"""Calibrates a trained model: corrects how sure its answers are, on rows that training did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from onetrunk.core.answer import Sampling
from onetrunk.core.calibration import Calibration
from onetrunk.core.content import Role
from onetrunk.core.encoder import SegmentContext, class_names
from onetrunk.core.events import CalibrationDone, Listener, Note, ignore
from onetrunk.core.module import Calibrated
from onetrunk.core.values import present
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import encode
from onetrunk.data.store import Store
from onetrunk.data.table import Table
from onetrunk.inference.likelihood import reads_of
from onetrunk.inference.model_folder import Model, Task
from onetrunk.inference.wide_outputs import add_wide
from onetrunk.storage.tensors import load_tensors, save_tensors

MIN_ROWS = 20  # fewer say nothing
_COVERAGE = Sampling().coverage  # of sets and intervals, by which validation rows are compared with training rows
_CHANCE = 1e-3  # that rows of one kind look as if they were of two
_MAX_ROWS = 20_000
_MAX_LOGITS = 4_000_000  # rows times classes
VALIDATION, HELD_OUT = "validation rows", "rows held out in cross-validation"
_OUTPUTS, _TARGET = "outputs", "target."  # names of tensors in a file


@dataclass(frozen=True)
class HeldOut:
    """Of one asked column: what the answers of rows that a model has not learnt from are made of, [r, ...], and their
    targets [r, ...]."""

    outputs: Tensor
    targets: dict[str, Tensor]

    @classmethod
    def join(cls, several: Sequence[HeldOut]) -> HeldOut:
        targets = {name: torch.cat([each.targets[name] for each in several]) for name in several[0].targets}
        return cls(torch.cat([each.outputs for each in several]), targets)

    def save(self, path: Path) -> None:
        """Disk faults raise OSError."""
        save_tensors(
            path, {_OUTPUTS: self.outputs, **{f"{_TARGET}{name}": each for name, each in self.targets.items()}}
        )

    @classmethod
    def load(cls, path: Path) -> HeldOut:
        """Raises ModelFileError."""
        tensors = load_tensors(path)
        targets = {name.removeprefix(_TARGET): each for name, each in tensors.items() if name != _OUTPUTS}
        return cls(tensors[_OUTPUTS], targets)


@torch.no_grad()
def held_out(model: Model, given: list[str], name: str, store: Store) -> HeldOut | None:
    """Of as many of these rows as calibration looks at; None where such answers are not calibrated."""
    module = model.module(name)
    if not isinstance(module, Calibrated):
        return None
    some = store.subset(np.flatnonzero(store.index[:, store.names.index(name)] >= 0)[: _bound(model, name)])
    add_wide(model.network, some, given, name)
    h, targets = reads_of(model.network, some, given, name)
    return HeldOut(module.uncalibrated(h), targets)


@torch.no_grad()
def calibrate(model: Model, task: Task, rows: Table, learnt: int, on_event: Listener = ignore) -> None:
    """Calibrates every asked column on the validation rows that chose the model, which has learnt from so many others;
    one with too few of them stays as it is."""
    for name in task.ask:
        _keep(model, name, _by_validation(model, task.given, name, rows, learnt), on_event)


def heed_validation(model: Model, task: Task, rows: Table, learnt: int, on_event: Listener = ignore) -> None:
    """A model that cross-validation has calibrated, where validation rows are harder than the training rows (a later
    time, other molecules): what will be asked is likelier of their kind, and they calibrate it instead. They are harder
    where sets or intervals hold what is true of fewer of them than chance explains: of rows of one kind their number
    is beta-binomial (Vovk, arXiv 1209.2673)."""
    from scipy.stats import betabinom

    for name in task.ask:
        held, truths = model.calibration(name), rows.columns.get(name, [])
        some = rows.take(np.flatnonzero(present(truths)))
        if held is None or held.threshold(_COVERAGE) is None or len(some) < MIN_ROWS:
            continue
        measured = model.evaluation(name).measure(model.answer(some, name, task.given), list(some[name]))
        coverage, rank = measured.get("coverage"), held.rank(_COVERAGE)
        if coverage is None or betabinom.cdf(coverage * len(some), len(some), rank, held.rows + 1 - rank) >= _CHANCE:
            continue
        what = "intervals" if "interval_width" in measured else "sets of classes"
        on_event(
            Note(
                f"The {len(some):,} validation rows are of another kind than the training rows: {what} that should "
                f"hold the true {name} of {_COVERAGE:.0%} of them hold that of {coverage:.0%}. The answers are "
                "therefore calibrated on the validation rows. If the rows that you will ask about are like the "
                "training rows, split at random (--split random)."
            )
        )
        _keep(model, name, _by_validation(model, task.given, name, some, learnt), on_event)


def _by_validation(model: Model, given: list[str], name: str, rows: Table, learnt: int) -> Calibration | None:
    """What calibrates the column best on these rows, as far as they can tell."""
    module = model.module(name)
    if not isinstance(module, Calibrated) or name not in rows.columns:
        return None
    columns = [column for n, column in model.columns.items() if n in (*given, name)]
    store = encode(rows, columns, model.network.encoders, Ledger())
    if (store.index[:, store.names.index(name)] >= 0).sum() < MIN_ROWS:
        return None
    if (made := held_out(model, given, name, store)) is None:
        return None
    return module.fit_calibration(made.outputs, made.targets, VALIDATION, learnt)


@torch.no_grad()
def calibration_by(model: Model, name: str, made: HeldOut) -> Calibration | None:
    """Of a column, by what models of its kind, each of which has learnt from the other rows, made of these."""
    module = model.module(name)
    if not isinstance(module, Calibrated) or len(made.outputs) < MIN_ROWS:
        return None
    return module.fit_calibration(made.outputs, made.targets, HELD_OUT)


def calibrate_by(model: Model, name: str, made: HeldOut, on_event: Listener = ignore) -> None:
    """Calibrates a column by `calibration_by`."""
    _keep(model, name, calibration_by(model, name, made), on_event)


@torch.no_grad()
def calibrate_held_out(model: Model, name: str, store: Store, rows: np.ndarray, on_event: Listener = ignore) -> None:
    """Calibrates a model that answers as its wide read-out does (the trunk's part is still zero), on what
    `store.wide[name]` holds for these rows: what models say of each that did not learn from it."""
    module, c = model.module(name), store.names.index(name)
    if not isinstance(module, Calibrated) or len(rows) < MIN_ROWS:
        return
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _bound(model, name))).astype(np.int64)]
    content = store.contents[c].take(store.index[rows, c])
    segment = store.encoders[c].segment(content, SegmentContext(Role.ASKED, rows.astype(np.uint64)))
    device = next(module.parameters()).device
    targets = {key: torch.from_numpy(array).to(device) for key, array in segment.targets.items()}
    wide = torch.from_numpy(store.wide[name][rows]).to(device)
    h = torch.cat([wide.new_zeros(len(rows), module.read_width - wide.shape[1]), wide], dim=1)
    training = module.training
    _keep(model, name, module.fit_calibration(module.eval().uncalibrated(h), targets, HELD_OUT), on_event)
    module.train(training)


def forget_calibration(network: nn.Module) -> None:
    """What is trained on is no longer calibrated."""
    for module in network.modules():
        if isinstance(module, Calibrated):
            module.calibration = None


def _bound(model: Model, name: str) -> int:
    """Rows that are looked at, at most."""
    classes = class_names(model.encoder(name)) or [""]
    return max(MIN_ROWS, min(_MAX_ROWS, _MAX_LOGITS // len(classes)))


def _keep(model: Model, name: str, fitted: Calibration | None, on_event: Listener) -> None:
    module = model.module(name)
    if fitted is None or not isinstance(module, Calibrated):
        return
    module.calibration = fitted
    on_event(CalibrationDone(name, fitted.rows, fitted.fitted_on, fitted.before, fitted.after))
