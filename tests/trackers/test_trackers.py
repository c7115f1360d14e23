"""Trackers are listeners: what they keep of a run's events is read back through the real programs, offline."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import onetrunk
from onetrunk.core.errors import MissingExtraError, UsageError
from onetrunk.core.events import BaselineDone, Collected, Event, Listener, Note, StageFinished, StepDone
from onetrunk.trackers import tracked
from onetrunk.trackers.figures import figures_of, flat, plottable

SETTINGS = {"seed": 3, "recipe": {"train": {"lr": 0.1}, "columns": {}}}
EVENTS: list[Event] = [
    Note("nothing to plot"),
    *(StepDone("pretraining", step, 2, 1.0 / step, 900.0, None, 7) for step in (1, 2)),
    *(StepDone("fine-tuning", step, 2, 0.5 / step, 800.0, 0.25, 7) for step in (1, 2)),
    BaselineDone("../房价 [a]", "majority", "accuracy", 0.5, 0.1),
    BaselineDone("label", "slow", "accuracy", None, 0.1, "left out"),
    StageFinished("fine-tuning", 2, 1.5, 0.75, 2),
]
BASELINE = f"baselines/{plottable('../房价 [a]')}/majority accuracy"


def send(listener: Listener) -> None:
    for event in EVENTS:
        listener(event)


def test_figures_of_events() -> None:
    found = [figures_of(event) for event in EVENTS]
    assert found[0].values == {} == found[6].values
    assert (found[1].series, found[1].step) == ("pretraining", 1)
    assert found[1].values == {"pretraining/loss": 1.0, "pretraining/tokens_per_s": 900, "pretraining/memory_bytes": 7}
    assert found[3].values["fine-tuning/mfu"] == 0.25
    assert found[5].values == {BASELINE: 0.5} and found[5].series == ""
    assert found[7].values["fine-tuning value"] == 0.75
    assert plottable("top-5 accuracy") == "top-5 accuracy" and plottable("../a[b").startswith("_a_b-")
    assert plottable("a[b") != plottable("a]b")
    assert flat(SETTINGS) == {"seed": 3, "recipe.train.lr": 0.1, "recipe.columns": {}}


def test_a_tracker_that_is_not_known_or_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="Did you mean 'mlflow'"), tracked(Collected(), "mlfow", "run", {}):
        pass
    monkeypatch.setitem(sys.modules, "wandb", None)
    with (
        pytest.raises(MissingExtraError, match=r"--track wandb needs.*onetrunk\[wandb\]"),
        tracked(Collected(), "wandb", "run", {}),
    ):
        pass


def test_a_verb_tells_its_tracker_all_and_closes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, told = Collected(), []

    @contextmanager
    def opened(run: str, settings: dict[str, Any], allow_network: bool) -> Iterator[Listener]:
        told.append((run, settings["recipe"]["size"], allow_network))
        yield heard
        told.append("closed")

    monkeypatch.setattr("onetrunk.trackers.mlflow.track", opened)
    out = str(tmp_path / "m")
    onetrunk.pretrain(
        {"a": [i % 5 for i in range(60)], "b": ["xy"[i % 2] for i in range(60)]}, out=out, size="nano", quiet=True,
        settings=["pretrain.steps=2", "train.tensorboard=false"], track="mlflow",
    )  # fmt: skip
    assert told == [(out, "nano", False), "closed"]
    assert [event.step for event in heard.of(StepDone)] == [1, 2]


def test_mlflow_keeps_a_run_in_its_local_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "https://example.invalid")
    with pytest.raises(UsageError, match="--allow-network"), tracked(Collected(), "mlflow", "run", SETTINGS):
        pass
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(uri)
    heard = Collected()
    with tracked(heard, "mlflow", "my run", SETTINGS) as listener:
        send(listener)
    assert heard == EVENTS, "the first listener hears everything too"
    with pytest.raises(KeyboardInterrupt), tracked(Collected(), "mlflow", "stopped", SETTINGS):
        raise KeyboardInterrupt
    with mlflow.start_run(run_name="the user's own") as own, tracked(Collected(), "mlflow", "m", SETTINGS) as listener:
        send(listener)

    client = mlflow.MlflowClient(uri)
    runs = {run.info.run_name: run for run in client.search_runs(["0"])}
    assert {name: run.info.status for name, run in runs.items()} == {
        "my run": "FINISHED", "stopped": "FAILED", "the user's own": "FINISHED"
    }  # fmt: skip
    kept = runs["my run"]
    assert kept.data.params == {"seed": "3", "recipe.train.lr": "0.1", "recipe.columns": "{}"}
    assert kept.data.metrics[BASELINE] == 0.5 and kept.data.metrics["fine-tuning value"] == 0.75
    history = client.get_metric_history(own.info.run_id, "fine-tuning/loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.25)]


def logged(data: bytes) -> Iterator[bytes]:
    """The records of a file of wandb: LevelDB's log format, in blocks of 32 kB."""
    record, at = b"", 7
    while at < len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def test_wandb_keeps_a_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.chdir(tmp_path)
    with tracked(Collected(), "wandb", "my run", SETTINGS) as listener:
        send(listener)
    assert wandb.run is None, "it is closed"
    wandb.teardown()  # waits for its process, which writes the file
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    records = [Record.FromString(data) for data in logged(file.read_bytes())]
    (run,) = [record.run for record in records if record.WhichOneof("record_type") == "run"][:1]
    config = {item.key: item.value_json for item in run.config.update}
    assert run.project == "onetrunk" and run.display_name == "my run" and config["recipe.train.lr"] == "0.1"
    rows = [
        {item.nested_key[0] if item.nested_key else item.key: item.value_json for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    losses = [(row["fine-tuning/step"], row["fine-tuning/loss"]) for row in rows if "fine-tuning/step" in row]
    assert losses == [("1", "0.5"), ("2", "0.25")]
    ends = [record.exit.exit_code for record in records if record.WhichOneof("record_type") == "exit"]
    assert ends == [0]
