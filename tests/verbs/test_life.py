"""The life of a model through the verbs: pretrained, fine-tuned, asked, judged, stopped and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import onetrunk
from onetrunk.core.errors import DataError, InterruptedRunError, UsageError
from onetrunk.inference.model_folder import Model, Task
from onetrunk.training.open_data import Data, open_data
from onetrunk.training.recipe import SIZES, budget_seconds, make_recipe

QUICK = ["pretrain.steps=4", "finetune.steps=4", "finetune.folds=2", "train.tensorboard=false"]
GOOD, BAD = ["warm", "clean", "quiet", "lovely"], ["cold", "dirty", "noisy", "broken"]


def table(n: int = 240, labelled: int | None = None) -> dict[str, list[Any]]:
    """Reviews whose words tell their label; the price goes with the number of nights."""
    dice = np.random.default_rng(0)
    rows: dict[str, list[Any]] = {"review": [], "nights": [], "price": [], "label": []}
    for i in range(n):
        good = bool(dice.random() < 0.5)
        words = dice.choice(GOOD if good else BAD, 2)
        nights = int(dice.integers(1, 15))
        rows["review"].append(f"{words[0]} room {i}, {words[1]} bed")
        rows["nights"].append(nights)
        rows["price"].append(80.0 * nights + float(dice.random()))
        rows["label"].append(("good" if good else "bad") if labelled is None or i < labelled else None)
    return rows


def quick(out: Path, verb: str = "pretrain", data: Any = None, settings: list[str] | None = None, **rest: Any) -> Model:
    return getattr(onetrunk, verb)(
        data or table(), out=str(out), settings=[*QUICK, *(settings or [])], quiet=True, **{"size": "nano", **rest}
    )


def weights(model: Model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def foundation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("life") / "foundation"
    quick(out)
    return out


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained for long enough to know its task."""
    out = tmp_path_factory.mktemp("life") / "model"
    settings = ["pretrain.steps=60", "finetune.steps=40", "train.tensorboard=false"]
    onetrunk.train(table(), ask=["label"], out=str(out), size="nano", settings=settings, quiet=True)
    return out


# -- the whole way -------------------------------------------------------------------------------------------
def test_training_learns_the_task_and_leaves_everything_behind(learnt: Path) -> None:
    files = {path.relative_to(learnt).as_posix() for path in learnt.rglob("*") if path.is_file()}
    assert files >= {
        "config.json", "model.safetensors", "columns.safetensors", "onetrunk.json", "provenance.json", "manifest.json",
        "tokenizer.json", "README.md", "evidence/metrics.json", "evidence/report.html", "metrics.jsonl",
    }  # fmt: skip
    (task,) = json.loads((learnt / "evidence" / "metrics.json").read_text())["tasks"]
    assert task["metrics"]["accuracy"] >= 0.9 and task["baselines"]
    model = onetrunk.load(learnt)
    assert [stage["stage"] for stage in model.provenance["stages"]] == ["pretrain", "finetune"]
    assert sum(model.provenance["stages"][1]["rows"].values()) == 240
    assert model.provenance["decision"]["labelled_rows"] == model.provenance["stages"][1]["rows"]["train"]
    assert model.tasks == [Task(["review", "nights", "price"], ["label"])]


def test_answers_come_as_tables_with_or_without_the_truth(learnt: Path, tmp_path: Path) -> None:
    rows = {"review": ["lovely room 900, warm bed", "noisy room 901, cold bed"], "nights": [3, 4]}
    frame = onetrunk.predict(str(learnt), rows, out=str(tmp_path / "a.jsonl"), quiet=True)
    assert frame["label"].tolist() == ["good", "bad"]
    assert (frame["label_p_good"] + frame["label_p_bad"]).tolist() == pytest.approx([1, 1], abs=1e-5)
    written = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["label"] for row in written] == ["good", "bad"]
    every = onetrunk.predict(str(learnt), rows, ask=["label", "price"], quiet=True)
    assert (every["price_low"] <= every["price_high"]).all() and every["label"].tolist() == ["good", "bad"]
    mapped = onetrunk.predict(str(learnt), {"text": rows["review"]}, map={"review": "text"}, quiet=True)
    assert mapped["label"].tolist() == ["good", "bad"]


def test_generating_is_keyed_and_from_nothing_or_from_rows(learnt: Path) -> None:
    def made(**options: Any) -> list[Any]:
        return onetrunk.generate(str(learnt), quiet=True, max_length=12, **options)["review"].tolist()

    nothing = made(ask=["review"], n=6)
    assert len(nothing) == 6 and len(set(nothing)) > 1
    assert made(ask=["review"], n=6) == nothing != made(ask=["review"], n=6, seed=1)
    assert len(made(ask=["review"], n=3, data='{"label": "good"}')) == 3
    with pytest.raises(UsageError, match="--n expects 1 or more"):
        made(ask=["review"], n=0)
    with pytest.raises(DataError, match="none of the columns"):
        made(ask=["review"], n=1, data='{"colour": "red"}')


def test_evaluating_on_other_rows_replaces_the_evidence(learnt: Path) -> None:
    rows = {name: values[:40] for name, values in table().items()}
    strange = {**rows, "label": [*rows["label"][:39], "so-so"]}
    evidence = onetrunk.evaluate(str(learnt), strange, allow_equal_rows=True, quiet=True)
    (task,) = evidence.tasks
    assert task.metrics["unseen"] == 1 and task.metrics["accuracy"] <= 39 / 40
    assert json.loads((learnt / "evidence" / "metrics.json").read_text())["tasks"][0]["rows"] == 40
    onetrunk.load(learnt)  # what was added is in the manifest
    with pytest.raises(DataError, match="No held-out row has a value"):
        onetrunk.evaluate(str(learnt), {**rows, "label": [None] * 40}, allow_equal_rows=True, quiet=True)


def test_what_is_asked_from_nothing_is_judged_row_by_row(learnt: Path) -> None:
    """A number and a class have no likelihood of a text: the answer to each row is the same, and judged beside it."""
    rows = {name: values[:40] for name, values in table().items()}
    options: dict[str, Any] = {"ask": ["price", "label"], "given": [], "allow_equal_rows": True, "quiet": True}
    evidence = onetrunk.evaluate(str(learnt), rows, against=rows, beside=[str(learnt)], **options)
    assert [task.ask for task in evidence.tasks] == ["price", "label"] and [task.rows for task in evidence.tasks] == [
        40,
        40,
    ]
    for task in evidence.tasks:
        assert task.metrics[task.metric] is not None and any(one.score is not None for one in task.baselines)


# -- rows that were met --------------------------------------------------------------------------------------
@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Data]:
    """What every verb that trains chose, in order."""
    collected: list[Data] = []
    real = open_data
    for module in ("jobs", "train"):
        monkeypatch.setattr(
            f"onetrunk.training.{module}.open_data", lambda *a, **k: collected.append(real(*a, **k)) or collected[-1]
        )
    return collected


def held_out(data: Data) -> set[str]:
    return {*data.rows("val")["review"], *data.rows("test")["review"]}


@pytest.mark.parametrize("verb", ["finetune", "train"])
def test_what_a_foundation_learnt_from_is_not_held_out_later(tmp_path: Path, opened: list[Data], verb: str) -> None:
    start = tmp_path / "foundation"
    quick(start)  # without --ask: at random
    quick(tmp_path / "m", verb, ask=["label"], start=str(start), size=None)  # would be stratified
    quick(tmp_path / "n", "finetune", ask=["label"])
    trained = set(opened[0].rows("train")["review"])
    assert trained & held_out(opened[2]), "two splits of their own overlap: else this shows nothing"
    assert not trained & held_out(opened[1])
    assert len(opened[1].split.test) == 24


def test_a_text_asked_from_nothing_is_judged_by_its_likelihood(tmp_path: Path) -> None:
    rows = {"review": table()["review"]}
    model = quick(tmp_path / "m", "finetune", rows, ask=["review"])
    fresh = {"review": [f"lovely room {i}, quiet bed" for i in range(300, 330)]}
    (task,) = onetrunk.evaluate(str(tmp_path / "m"), fresh, against=rows, quiet=True).tasks
    assert (task.metric, task.higher_is_better) == ("bits_per_byte", False)
    nats, tokens = model.losses(fresh, "review", [])
    size = sum(len(text) for text in fresh["review"])
    assert task.metrics["bits_per_byte"] == pytest.approx(nats.sum() / np.log(2) / size)
    assert task.metrics["perplexity"] == pytest.approx(np.exp(nats.sum() / tokens.sum()))
    assert tokens.tolist() == [len(model.encoder("review").encode(text)["id"]) + 1 for text in fresh["review"]]
    assert task.score.low < task.score.value < task.score.high
    frequency, grams = task.baselines
    assert grams.score.value < frequency.score.value, "the longer context knows these words"
    assert grams.lead.value == pytest.approx(grams.score.value - task.score.value)
    report = (tmp_path / "m" / "evidence" / "report.html").read_text()
    assert "from nothing" in report and "likelihood" in report


def test_evaluating_leaves_out_what_was_trained_on_and_says_so(
    tmp_path: Path, opened: list[Data], capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tmp_path / "m")
    quick(tmp_path / "m", "finetune", ask=["label"])
    (task,) = onetrunk.evaluate(model, table()).tasks
    assert task.rows == len(opened[0].split.test) == 24
    assert "216 of 240 rows are left out, because the model was trained or validated on them" in " ".join(
        capsys.readouterr().err.split()
    )
    assert onetrunk.evaluate(model, table(), allow_equal_rows=True, quiet=True).tasks[0].rows == 240
    with pytest.raises(DataError, match=r"trained on every row .* --allow-equal-rows"):
        onetrunk.evaluate(model, opened[0].rows("train"), quiet=True)
    evidence = onetrunk.evaluate(model, table(), against=table())
    assert evidence.tasks[0].baselines
    assert "24 rows of --against are judged, so the baselines do not learn" in " ".join(capsys.readouterr().err.split())
    onetrunk.evaluate(model, {"label": ["good", "bad"], "nights": [1, 2]})
    assert "cannot be recognised here, because the table lacks review" in " ".join(capsys.readouterr().err.split())


def test_models_of_one_task_stand_beside_one_of_several(foundation: Path, tmp_path: Path) -> None:
    names = {"both": ["label", "price"], "label-only": ["label"], "price-only": ["price"]}
    for name, ask in names.items():
        quick(tmp_path / name, "finetune", ask=ask, given=["review", "nights"], start=str(foundation), size=None)
    beside = [str(tmp_path / name) for name in ("label-only", "price-only")]
    evidence = onetrunk.evaluate(str(tmp_path / "both"), table(), beside=beside, quiet=True)
    assert [[baseline.name for baseline in task.baselines] for task in evidence.tasks] == [
        ["label-only"],
        ["price-only"],
    ]
    for task in evidence.tasks:
        (baseline,) = task.baselines
        (alone,) = onetrunk.evaluate(str(tmp_path / baseline.name), table(), quiet=True).tasks
        assert baseline.score.value == pytest.approx(alone.score.value) and baseline.metrics == pytest.approx(
            alone.metrics
        )
        sign = 1 if task.higher_is_better else -1
        assert baseline.lead.value == pytest.approx(sign * (task.score.value - baseline.score.value))
        assert task.rows == alone.rows == 24, "the foundation's split, which is theirs too"
    with pytest.raises(UsageError, match="folders of different names"):
        onetrunk.evaluate(str(tmp_path / "both"), table(), beside=[beside[0]] * 2, quiet=True)


def test_what_is_lost_counts_once_however_many_models_read_the_rows(tmp_path: Path) -> None:
    """Simple models, pretraining and fine-tuning each encode them: one value of 96 may be bad, two may not."""
    rows = table(120, labelled=40)
    rows["price"] = [f"{price:.1f}" for price in rows["price"]]
    rows["price"][0] = "dear"
    model = quick(
        tmp_path / "m",
        "train",
        rows,
        ask=["label"],
        types={"price": "number"},
        max_bad=0.015,
        split="random:80/10/10",
    )
    (entry,) = [entry for entry in model.provenance["stages"][-1]["ledger"] if entry["bad"]]
    assert entry["column"] == "price" and entry["count"] == 1


def test_train_from_a_foundation_is_never_below_what_simple_models_know(foundation: Path, tmp_path: Path) -> None:
    model = quick(tmp_path / "m", "train", ask=["label"], start=str(foundation), size=None)
    decision = model.provenance["decision"]
    assert decision["kept"] == "the wide read-out alone" and decision["wide"]["label"]["scores"]["linear"] < 0.1
    assert [stage["stage"] for stage in model.provenance["stages"]] == ["pretrain", "finetune", "wide"]
    alone = quick(
        tmp_path / "deep", "train", ask=["label"], start=str(foundation), size=None, settings=["finetune.wide=false"]
    )
    assert alone.network.wide_of("label") is None


def test_training_again_goes_on_with_the_foundation_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"data": table(60), "ask": ["label"], "size": "nano", "settings": [*QUICK, "finetune.wide=false"]}
    onetrunk.train(**settings, out=str(tmp_path / "m"), quiet=True)
    before = (tmp_path / "m-foundation" / "manifest.json").read_bytes()
    with pytest.raises(UsageError, match="already exists"):
        onetrunk.train(**settings, out=str(tmp_path / "m"), quiet=True)
    (tmp_path / "m").rename(tmp_path / "elsewhere")
    old = tmp_path / f"m-foundation.old-{'0' * 32}"  # as a kill leaves it between the renames of a swap
    old.mkdir()
    (tmp_path / "m-foundation" / "metrics.jsonl").rename(old / "metrics.jsonl")
    onetrunk.train(**settings, out=str(tmp_path / "m"))
    assert "Going on from" in capsys.readouterr().err and not old.exists()
    figures = [{path.name for path in (tmp_path / name / "evidence/figures").iterdir()} for name in ("m", "elsewhere")]
    assert figures[0] == figures[1] and "curves-pretraining.png" in figures[0]
    assert (tmp_path / "m-foundation" / "manifest.json").read_bytes() == before
    assert same(weights(onetrunk.load(tmp_path / "m")), weights(onetrunk.load(tmp_path / "elsewhere")))


def test_inspecting_is_data_for_machines() -> None:
    inspection = onetrunk.inspect(table(), ask=["label"], split="auto", quiet=True).as_json()
    assert json.loads(json.dumps(inspection))
    assert {"review", "nights", "price", "label"} <= set(json.dumps(inspection).replace('"', " ").split())


# -- fine-tuning ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("freeze", "moving"), [("trunk", set()), ("1", {"1"}), (None, {"0", "1"})])
def test_frozen_blocks_stay_as_they_were(
    foundation: Path, tmp_path: Path, freeze: str | None, moving: set[str]
) -> None:
    before = weights(onetrunk.load(foundation))
    tuned = quick(tmp_path / "m", "finetune", ask=["label"], start=str(foundation), freeze=freeze, size=None)
    after = weights(tuned)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".")[2] for name in changed if name.startswith("trunk.layers.")} == moving
    head, nights = (tuned.network.column_modules.parameter_name(*of) for of in (("label", "head"), ("nights", "")))
    assert any(name.startswith(head) for name in changed)
    given = {name for name in changed if name.startswith(nights) or name.startswith("markers")}
    assert bool(given) == (freeze is None), "what comes before a frozen block does not move under it"
    assert all(p.requires_grad for p in tuned.network.parameters())


@pytest.mark.parametrize("freeze", ["trunk", "1", None])
def test_a_module_that_given_and_asked_columns_share_moves_in_its_read_out_only(
    tmp_path: Path, freeze: str | None
) -> None:
    rows = {"en": table()["review"], "zh": [f"房间 {i} 很好" for i in range(240)]}
    start = tmp_path / "foundation"
    before = weights(quick(start, data=rows))
    tuned = quick(tmp_path / "m", "finetune", rows, ask=["zh"], start=str(start), freeze=freeze, size=None)
    assert {column.key for column in tuned.columns.values()} == {"text"}
    changed = {name for name, tensor in weights(tuned).items() if not torch.equal(before[name], tensor)}
    head, embedding = (tuned.network.column_modules.parameter_name("text", name) for name in ("head", "table"))
    assert head in changed
    assert (embedding in changed) == (freeze is None), "the given text is embedded with it"


def test_a_foundation_meets_other_names_new_classes_and_new_columns(foundation: Path, tmp_path: Path) -> None:
    rows = table(60)
    other = {
        "text": rows["review"],
        "label": [*rows["label"][:40], *["so-so"] * 20],
        "stars": [i % 5 for i in range(60)],
    }
    tuned = quick(
        tmp_path / "m", "finetune", other, ask=["label"], start=str(foundation), map={"review": "text"}, size=None,
        types={"stars": "number"},
    )  # fmt: skip
    assert tuned.encoder("label").class_names() == ["bad", "good", "so-so"]
    assert set(tuned.columns) == {"review", "nights", "price", "label", "stars"}
    old, new = onetrunk.load(foundation), onetrunk.load(tmp_path / "m")
    assert old.encoder("label").class_names() == ["bad", "good"] and new.module("label").table.shape[0] == 3
    frame = onetrunk.predict(str(tmp_path / "m"), {"review": ["clean room"], "stars": [3]}, quiet=True)
    assert "label_p_so-so" in frame


def test_few_labels_are_cross_validated_and_the_better_is_kept(tmp_path: Path) -> None:
    rows = table(60, labelled=20)
    start = tmp_path / "foundation"
    quick(start, data=rows)
    deep = ["finetune.wide=false"]
    tuned = quick(tmp_path / "m", "train", rows, deep, ask=["label"], start=str(start), size=None)
    gain = tuned.provenance["decision"]
    assert gain["labelled_rows"] < 20
    scores = gain["cross_validation"]
    assert gain["kept"] == ("fine-tuned" if scores["fine-tuned"] > scores["pretrained"] else "pretrained")
    assert same(weights(tuned), weights(onetrunk.load(start))) == (gain["kept"] == "pretrained")


def test_labels_spread_to_neighbours_where_answers_are_classes(tmp_path: Path) -> None:
    rows = table(60, labelled=20)
    start = tmp_path / "foundation"
    quick(start, data=rows)
    spread = ["finetune.label_propagation=true"]
    tuned = quick(tmp_path / "m", "train", rows, ask=["label"], start=str(start), size=None, settings=spread)
    decision = tuned.provenance["decision"]
    assert decision["rows_with_propagated_labels"] > decision["labelled_rows"]
    rows["price"][30:] = [None] * 30
    with pytest.raises(UsageError, match="one class each; 'price' has others"):
        quick(tmp_path / "n", "finetune", rows, ask=["price"], start=str(start), size=None, settings=spread)


def test_repeated_seeds_are_all_tried(tmp_path: Path) -> None:
    tuned = quick(tmp_path / "m", "finetune", ask=["label"], settings=["finetune.repeats=2"])
    assert tuned.provenance["stages"][-1]["stage"] == "finetune"
    places = sorted(p.name for p in (tmp_path / "m" / "checkpoints").iterdir())
    assert places == ["seed-0", "seed-1"]


@pytest.mark.parametrize("settings", [["trunk.kind=gru"], ["attention=causal"], ["trunk.kind=rnn", "attention=causal"]])
def test_every_trunk_goes_all_the_way(tmp_path: Path, settings: list[str]) -> None:
    tuned = quick(tmp_path / "m", "finetune", ask=["label"], settings=settings)
    again = onetrunk.load(tmp_path / "m")
    rows = {name: values[:5] for name, values in table().items()}
    assert again.predict(rows).equals(tuned.predict(rows))


# -- settings ------------------------------------------------------------------------------------------------
def test_the_seed_decides_the_weights(foundation: Path, tmp_path: Path) -> None:
    known = weights(onetrunk.load(foundation))
    assert same(weights(quick(tmp_path / "again")), known)
    assert not same(weights(quick(tmp_path / "other", seed=1)), known)


def test_row_weights_are_read_and_checked(tmp_path: Path) -> None:
    rows = table(60)
    rows["weight"] = [1.0] * 60
    weighed = quick(tmp_path / "a", data=rows, settings=["row_weight=weight"])
    assert "weight" not in weighed.columns
    rows["weight"][50:] = [0.0] * 10
    assert not same(weights(quick(tmp_path / "b", data=rows, settings=["row_weight=weight"])), weights(weighed))
    rows["weight"][:30] = [-1.0] * 30
    with pytest.raises(UsageError, match="weight of 0 or more"):
        quick(tmp_path / "c", data=rows, settings=["row_weight=weight"])


def test_a_configuration_file_flags_and_settings_in_this_order(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("size: small\ntrain: {lr: 0.01, clip: 2.0}\n")
    run = make_recipe(tmp_path / "run.yaml", ["train.lr=0.5"], size="nano")
    assert (run.size, run.train.lr, run.train.clip) == ("nano", 0.5, 2.0)
    assert run.trunk_config() == {"kind": "transformer", **SIZES["nano"]}
    with pytest.raises(UsageError, match=r"Unknown key 'train.lrr'.*Did you mean 'lr'"):
        make_recipe({"train": {"lrr": 1}}, None)
    with pytest.raises(UsageError, match=r"'train.steps'.*Did you mean 'pretrain.steps' or 'finetune.steps'\?"):
        make_recipe(None, ["train.steps=5"])


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("10min", 600), ("2h", 7200), ("45", 45), (None, None)])
def test_budgets_are_times(text: str | None, expected: float | None) -> None:
    assert budget_seconds(text) == expected


def test_a_budget_bounds_the_steps(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="90s, 10min or 2h; found 'soon'"):
        budget_seconds("soon")
    eager = "train.compile=false"  # which so many steps would pay for
    model = quick(tmp_path / "m", settings=["pretrain.steps=100000", eager], budget="0.01s")
    assert model.provenance["stages"][0]["steps"] == 20
    many = ["finetune.steps=100000", eager]
    tuned = quick(tmp_path / "n", "finetune", ask=["label"], settings=many, budget="0.01s")
    assert tuned.provenance["stages"][0]["steps"] == 20


# -- stopping ------------------------------------------------------------------------------------------------
def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onetrunk.data.loader import Loader

    settings = ["pretrain.steps=9", "train.save_every=4"]
    whole = weights(quick(tmp_path / "whole", settings=settings))
    real = Loader.__call__

    def interrupted(self: Loader, step: int) -> Any:
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, step)

    with monkeypatch.context() as patched:
        patched.setattr(Loader, "__call__", interrupted)
        with pytest.raises(
            InterruptedRunError, match=r"Stopped after step 6 of 9.*The same command goes on"
        ) as stopped:
            quick(tmp_path / "m", settings=settings)
    assert stopped.value.exit_code == 130
    assert not (tmp_path / "m" / "manifest.json").exists()
    seen = []
    monkeypatch.setattr(Loader, "__call__", lambda self, step: seen.append(step) or real(self, step))
    assert same(weights(quick(tmp_path / "m", settings=settings)), whole)
    assert seen == [6, 7, 8]


def test_ctrl_c_on_the_command_line_saves_and_exits_with_130(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text(
        "\n".join(json.dumps(dict(zip(table(), row, strict=True))) for row in zip(*table(60).values(), strict=True))
    )
    command = [
        sys.executable, "-m", "onetrunk", "pretrain", "data.jsonl", "--out", "m", "--size", "nano",
        "--set", "train.tensorboard=false", "--set", "train.save_every=5",
        "--set", "train.compile=false", "--set",
    ]  # fmt: skip
    run = subprocess.Popen([*command, "pretrain.steps=100000"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "m").glob("checkpoints/step-[1-9]*")) and run.poll() is None:
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    output = run.communicate(timeout=120)[1]
    assert run.returncode == 130, output
    assert "Traceback" not in output and "The same command goes on from there." in output.replace("\n", " ")
    assert json.loads((tmp_path / "m" / "metrics.jsonl").read_text().splitlines()[-1])["step"] >= 5
