"""plan: what it predicts is what the run's own parts say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import onetrunk
from onetrunk.core.errors import UsageError
from onetrunk.core.registry import column_types
from onetrunk.data.loader import Loader
from onetrunk.engine import runtime
from onetrunk.engine.planning import ACCELERATORS
from onetrunk.engine.runtime import Runtime
from onetrunk.model import FoundationModel
from onetrunk.model.flops import StepOperations
from onetrunk.training import dry_run
from onetrunk.training import plan as plan_module
from onetrunk.training.batches import make_objectives
from onetrunk.training.options import TrainingOptions
from onetrunk.training.plan import plan_pretraining
from onetrunk.training.plan_after import compared
from onetrunk.training.recipe import SIZES, PretrainConfig, make_recipe

STREAM = [
    "columns.text={length: 32, vocabulary: 300}",
    "pretrain.objectives=[{kind: predict, documents: 8}]",
    "attention=causal",
    "train.precision=fp32",
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "_SECONDS", 0.0)
    monkeypatch.setattr(runtime, "_SIDE", 64)
    runtime._gemm_rate.cache_clear()
    yield
    runtime._gemm_rate.cache_clear()


def plan(*settings: str, **options: Any) -> dict[str, Any]:
    return onetrunk.plan(quiet=True, settings=[*STREAM, *settings], size="nano", **{"tokens": 1e4, **options})


def test_a_plan_says_what_the_built_model_and_its_batches_say() -> None:
    planned = plan("trunk.layers=4")
    config = make_recipe(None, [*STREAM, "trunk.layers=4"], size="nano")
    source = dry_run.Source.stand_in(config)
    built = FoundationModel(config.trunk_config(), source.columns, source.encoders, "causal")
    objectives = make_objectives(config.pretrain.objectives, source.store)
    batches = Loader(source.store, objectives, seed=0, tokens_per_batch=config.tokens_per_batch)(0)
    assert planned["parameters"] == sum(p.numel() for p in built.parameters())
    assert planned["step"]["operations"] == pytest.approx(sum(map(StepOperations(built), batches)), rel=1e-9)
    assert planned["step"]["tokens"] == 8 * 32 and planned["run"]["steps"] == -(-10_000 // (8 * 32))
    assert planned["memory_gb"]["weights"] == pytest.approx(4e-9 * planned["parameters"])
    assert planned["fits"] and planned["step"]["seconds"] > 0
    assert planned["run"]["seconds"] == planned["run"]["steps"] * planned["step"]["seconds"]
    assert planned["run"]["kwh"] == pytest.approx(planned["hardware"]["watts"] * planned["run"]["seconds"] / 3.6e6)
    assert "assumed" in planned["hardware"]["watts_from"]


def test_a_step_is_on_the_lines_through_what_was_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that says 10 for a step, 7 for each micro-batch, and 2 for each block in it."""

    class Timed:
        def __init__(self, learner: Any, batches: Any, config: Any, place: str, updates: Any) -> None:
            self.blocks, self.batches = len(learner.model.trunk.layers), batches

        def dry_run(self, seconds: float) -> list[float]:
            return [10 + len(self.batches(step)) * (7 + 2 * self.blocks) for step in range(5)][1:]

    monkeypatch.setattr(dry_run, "Trainer", Timed)
    whole = plan("trunk.layers=6")
    assert whole["step"]["seconds"] == pytest.approx(10 + 7 + 2 * 6)
    parts = plan("trunk.layers=6", "tokens_per_batch=64")
    assert parts["step"]["micro_batches"] == 4
    assert parts["step"]["seconds"] == pytest.approx(10 + 4 * (7 + 2 * 6))


def test_elsewhere_the_published_rate_counts_and_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "Trainer", None)
    planned = plan("tokens_per_batch=64", hardware="2x8xh100", efficiency=0.5, watts=20_000)
    rate = ACCELERATORS["h100"].tflops * 1e12 * 0.5
    assert planned["step"]["seconds_by"]["products"] == pytest.approx(planned["step"]["operations"] / 4 / rate)
    assert planned["hardware"] | {"devices": 16, "watts": 20_000, "watts_from": "given"} == planned["hardware"]
    assert any("leave 12 of 16 devices idle" in line for line in planned["advice"])


def test_what_does_not_fit_is_said_and_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.Runtime, "memory_bytes", 4096**2)
    monkeypatch.setattr(dry_run, "Trainer", None)
    planned = plan()
    assert not planned["fits"] and planned["step"]["seconds"] is planned["run"]["kwh"] is None
    assert "It does not fit" in planned["advice"][-1]


def test_less_memory_than_there_is_can_be_planned_for_and_what_helps_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "Trainer", None)
    shape = ["trunk.layers=12", "columns.text={length: 256, vocabulary: 300}"]
    whole = plan(*shape, hardware="h100")
    needed = whole["memory_gb"]["peak"]
    planned = plan(*shape, hardware="h100", max_memory=f"{1e3 * (needed - 0.01):.0f}MB")
    assert whole["fits"] and not planned["fits"]
    (advice,) = [line for line in planned["advice"] if "It does not fit" in line]
    ways = re.findall(r"--set (\S+=\w+)", advice)
    assert {way.partition("=")[0] for way in ways} == {"tokens_per_batch", "train.activation_checkpointing"}
    for way in ways:
        assert plan(*shape, way, hardware="h100")["memory_gb"]["peak"] < needed - 0.01


def test_each_of_several_processes_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run.DryRun, "measure", lambda *_: (1.0, 0.0))
    plans = [
        plan("train.sharded=true" if divided else "train.sharded=false", processes=n)
        for n, divided in ((1, False), (2, False), (2, True))
    ]
    alone, whole, sharded = (each["memory_gb"] for each in plans)
    assert plans[0]["other_processes_gb"] is None
    assert plans[1]["other_processes_gb"] == pytest.approx(whole["peak"] - whole["average"]), "rank 0 averages weights"
    assert 0 < plans[2]["other_processes_gb"] <= sharded["peak"] - sharded["whole"]
    assert whole["weights"] == alone["weights"] == 2 * sharded["weights"] and sharded["whole"] > 0
    assert sharded["optimizer"] == pytest.approx(whole["optimizer"] / 2)


def test_a_budget_bounds_the_steps_and_compares_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onetrunk.training.plan.SIZES", {name: SIZES[name] for name in ("nano", "tiny")})
    planned = plan(tokens=1e12, hardware="a100", budget="1h")
    assert planned["run"]["steps"] == int(3600 / planned["step"]["seconds"])
    assert set(planned["sizes"]) == {"nano", "tiny"} and planned["best_size"] in planned["sizes"]
    assert any(f"--size {planned['best_size']}" in line for line in planned["advice"])


def test_a_table_is_planned_as_it_would_be_pretrained() -> None:
    table = {"x": [float(i) for i in range(90)], "label": ["yes", "no"] * 45}
    planned = onetrunk.plan(table, size="nano", quiet=True, hardware="a100")
    run = PretrainConfig()
    assert planned["run"]["steps"] == run.min_steps
    assert planned["data"]["passes"] == pytest.approx(
        run.min_steps * 160 / 72, rel=0.05
    )  # of 90 rows 72 are learnt from
    assert any("passes more data help more" in line for line in planned["advice"])


def test_of_many_rows_a_sample_is_encoded_and_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"n": [float(i % 97) for i in range(3000)], "c": [("red", "green", "blue")[i * i % 3] for i in range(3000)]}
    settings = ["pretrain.epochs=3", "pretrain.min_steps=1"]
    whole = onetrunk.plan(table, quiet=True, size="nano", settings=settings)
    monkeypatch.setattr(dry_run, "_ENCODED_ROWS", 500)
    some = onetrunk.plan(table, quiet=True, size="nano", settings=settings)
    assert 0 < abs(some["data"]["tokens"] / whole["data"]["tokens"] - 1) < 0.05
    assert some["run"]["steps"] == pytest.approx(whole["run"]["steps"], rel=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": None}, "expects data, or --tokens"),
        ({"data": {"x": [1.0]}}, "not both"),
        ({"efficiency": 1.5}, "at most 1; found 1.5"),
        ({"watts": 0.0}, "--watts expects a number above 0"),
        ({"hardware": "h10"}, "Did you mean 'h100'"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(**options)


def test_options_of_columns_that_are_not_there_are_refused() -> None:
    with pytest.raises(UsageError, match=r"columns\.note needs data"):
        plan("columns.note.length=3")


def test_nothing_is_drawn_from_the_running_generator() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    plan(hardware="a100")
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("vocabulary", [5, 300, 70_000])
def test_random_text_has_the_vocabulary_that_was_asked_for(vocabulary: int) -> None:
    store = dry_run.random_store(vocabulary, 4, length=16)
    (encoder,), (content,) = store.encoders, store.contents
    module = column_types.get("text").module(encoder, 8)
    assert encoder.size == len(module.table) == vocabulary
    ids = content.gather()["id"]
    assert len(ids) == 4 * 16 and ids.min() > 0 and ids.max() < vocabulary
    again = column_types.get("text").encoder(encoder.options.model_dump())
    again.set_knowledge(encoder.knowledge())
    assert again.size == vocabulary, "what a saved model would know"


def test_a_vocabulary_needs_room_for_special_tokens() -> None:
    with pytest.raises(UsageError, match="needs 5 tokens or more; found 4"):
        dry_run.random_store(4, 1)


def test_a_plan_from_python_is_typed_and_silent(capsys: pytest.CaptureFixture[str]) -> None:
    options = TrainingOptions(settings=STREAM, size="nano")
    planned = plan_pretraining(None, options, tokens=1e4, hardware="a100")
    assert planned.run.steps == -(-10_000 // (8 * 32)) and planned.hardware.devices == 1
    assert planned.as_json().keys() == plan(hardware="a100").keys() and "sizes" not in planned.as_json()
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize(
    ("name", "watts", "source"),
    [("NVIDIA H100 80GB HBM3", 700, "published"), ("NVIDIA L40S", 350, "published"), ("Some GPU", 300, "assumed")],
)
def test_an_accelerator_draws_what_its_maker_says(
    monkeypatch: pytest.MonkeyPatch, name: str, watts: float, source: str
) -> None:
    run = dry_run.DryRun(dry_run.Source.stand_in(make_recipe(None, STREAM)), make_recipe(None, STREAM), 0)
    run.runtime = Runtime(torch.device("meta"))
    monkeypatch.setattr(Runtime, "name", name)
    result, message = plan_module._watts_here(run)
    assert result == watts and message.startswith(source)


def test_a_plan_stands_beside_what_the_run_took(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, table = str(tmp_path / "made"), {"text": [f"a line of text {i}" for i in range(40)]}
    settings = [*STREAM, "pretrain.steps=3"]
    onetrunk.pretrain(table, out=made, settings=settings, size="nano", quiet=True)
    planned = onetrunk.plan(table, settings=settings, size="nano", after=made)
    kept = onetrunk.load(made).provenance
    stage, (run,) = kept["stages"][-1], kept["runs"]
    after = planned["after"]
    assert after["steps"] == {"unit": "", "planned": 3, "measured": 3, "ratio": 1}
    assert after["a step"]["measured"] == stage["seconds"] / 3
    assert after["a step"]["planned"] == planned["step"]["seconds"] > 0
    assert after["energy"]["measured"] == run["wh"] / 1000 and after["memory"]["measured"] == run["peak_bytes"] / 1e9
    out = capsys.readouterr()
    shown = " ".join((out.out + out.err).split())
    assert "planned it took ratio" in shown and "parameters, and the plan is of" not in shown
    nobodys = onetrunk.load(made)
    nobodys.provenance = {}
    with pytest.raises(UsageError, match="--after expects a model folder that pretrain has made"):
        compared(plan_pretraining(table, TrainingOptions(size="nano", settings=settings)), nobodys)
