"""The comparisons of serving, generating and predicting, as small as they can be: every side answers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sites

from bench import generate_768, load, predict_table, rival_servers, serve_bert, serve_decisions
from bench.common import Run
from bench.speed import amounts_of
from onetrunk.core.errors import UsageError
from onetrunk.core.events import ignore

SHAPE = {"width": 32, "layers": 1, "heads": 2, "activation": "gelu", "mlp_width": 64}
WRITER = {"width": 32, "layers": 1, "heads": 2, "vocabulary": 400}


def test_clients_ask_without_a_pause_and_refuse_what_is_no_answer() -> None:
    with sites.served({"stays": sites.stays_model()}) as site:
        bodies = [{"rows": [sites.row(i)], "ask": "label"} for i in range(3)]
        start = time.perf_counter()
        found = load.ask(site.port, "/v1/predict", bodies, 3, 0.3)
        seconds = time.perf_counter() - start
        answered = [entry for entry in site.log if entry["route"] == "/v1/predict"]
        assert all(entry["status"] == 200 for entry in answered)
        assert found["requests_per_s"] * seconds >= len(answered) >= 3 and seconds >= 0.3
        assert 0 < found["p50_ms"] <= found["p95_ms"] <= 1000 * seconds
        with pytest.raises(RuntimeError, match="400"):
            load.ask(site.port, "/v1/predict", [{"rows": 1}], 1, 0.1)


def test_a_server_that_does_not_start_is_said(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="does not answer"), load.running(["-c", "1 / 0"], load.free_port(), "/"):
        pass


def test_our_server_and_a_pipeline_answer(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")  # of the extra `bench`
    for name, side in (("ours", serve_decisions.ours), ("rival", serve_decisions.rival)):
        (tmp_path / name).mkdir()
        kind = {"kind": "fastapi"} if name == "rival" else {}
        precision = "bf16" if name == "ours" else "fp32"
        found = side(shape=SHAPE, clients=2, seconds=0.2, precision=precision, place=str(tmp_path / name), **kind)
        assert found["requests_per_s"] > 0 and found["ready_seconds"] > 0
        assert 0 < found["p50_ms"] <= found["p95_ms"] and found["one_client_p50_ms"] > 0


def test_the_rival_answers_together_what_has_come() -> None:
    calls: list[list[str]] = []

    def answer(texts: Sequence[str]) -> list[dict[str, Any]]:
        calls.append(list(texts))
        time.sleep(0.02)
        return [{"label": text} for text in texts]

    async def clients() -> list[dict[str, Any]]:
        together = rival_servers.Together(answer)
        running = asyncio.create_task(together.run())
        found = await asyncio.gather(*(together.ask(str(i)) for i in range(70)))
        running.cancel()
        return found

    assert [each["label"] for each in asyncio.run(clients())] == [str(i) for i in range(70)]
    assert sorted(map(len, calls)) == [6, 32, 32]


def test_rows_are_told_to_pipelines_as_texts() -> None:
    table = serve_decisions.rows()
    text = load.as_texts(table)[3]
    assert text == f"review {table['review'][3]} nights {table['nights'][3]} plan {table['plan'][3]}"
    lengths = [len(text.split()) for text in serve_bert.rows()["review"]]
    assert min(lengths) < 10 and max(lengths) > 100


@pytest.mark.parametrize("side", ["ours", "transformers", "llama_cpp"])
def test_all_write_the_same_number_of_tokens(tmp_path: Path, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip({"ours": "torch", "transformers": "transformers", "llama_cpp": "xllamacpp"}[side])
    counts: list[tuple[int, int]] = []

    def counted(write: Any, prompts: list[list[int]], written: int) -> dict[str, float]:
        counts.append((len(prompts) * written, write(prompts, written)))
        return {}

    monkeypatch.setattr(generate_768, "timed", counted)
    own = {"kind": "q8_0"} if side == "llama_cpp" else {"precision": "fp32"}
    getattr(generate_768, side)(WRITER, streams=2, prompt=70, written=5, place=str(tmp_path), **own)
    assert counts == [(10, 10)]


def test_rows_are_answered_from_a_file_to_a_file(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    age = dice.integers(17, 80, 300)
    frame = pd.DataFrame(
        {"age": age, "work": dice.choice(["state", "private"], 300), "income": np.where(age > 45, ">50K", "<=50K")}
    )
    for part in ("train", "test"):
        frame.to_csv(tmp_path / f"{part}.csv", index=False)
    shared = {"folder": str(tmp_path), "rows": 700, "fitted": 300}
    for name, side in (("ours", predict_table.ours), ("rival", predict_table.rival)):
        place = tmp_path / name
        place.mkdir()
        own: dict[str, Any] = {"sample": 50, "budget": "1s", "size": "nano"} if name == "ours" else {}
        found = side(**shared, **own, place=str(place))
        answers = pd.read_parquet(place / "answers.parquet")
        assert len(answers) == 700 and found["rows_per_s"] == pytest.approx(700 / found["seconds"])
        p = answers["income_p_>50K"].to_numpy()
        assert p[answers["age"] > 60].mean() > p[answers["age"] < 30].mean()
    assert answers["age"].nunique() >= frame["age"].nunique()


def test_amounts_are_checked(tmp_path: Path) -> None:
    for kind, settings in ((serve_decisions.Amounts, ["widht=3"]), (serve_bert.Amounts, ["clients=0"])):
        with pytest.raises(UsageError, match="The settings of fake"):
            amounts_of(Run("fake", "test", 0, settings, True, tmp_path, ignore), kind)
    for module in (serve_decisions, serve_bert, generate_768, predict_table):
        amounts = amounts_of(Run("fake", "test", 0, module.QUICK, True, tmp_path, ignore), module.Amounts)
        assert json.loads(amounts.model_dump_json())
