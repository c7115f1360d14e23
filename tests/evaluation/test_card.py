"""The model card as the Hugging Face Hub's own library reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from evidence_fakes import Amount, Colour, FakeModel
from huggingface_hub import ModelCard

from onetrunk.core.answer import Answer
from onetrunk.engine.cost import Cost
from onetrunk.evaluation.card import card
from onetrunk.evaluation.gather import gather_evidence
from onetrunk.evaluation.record import Evidence, Origin, Verdict

EVIL = "a: [b] #<script>|`x`\n---\n- 'c' \"d\" \u202e\x00"
CLASSES = [EVIL, "green", "red"]


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    hue, size = CLASSES * 20, [float(i) for i in range(60)]
    sides = {"hue": Colour(CLASSES), EVIL: Colour(CLASSES), "size": Amount()}
    model = FakeModel(sides, lambda hue=None: Answer(hue, dict.fromkeys(CLASSES, 1 / 3)))
    test = {"hue": hue, EVIL: hue, "size": size}
    cost = Cost(90.0, 12.5, 5.9, 2_000_000_000, True, "measured: RAPL of package-0").as_json()
    run = {"verb": "train", "began": "2026-11-29T03:00:00Z", **cost}
    made = Origin(data=EVIL, rows={"train": 100}, runs=[run, {**run, "verb": "finetune"}], co2_g_per_kwh=473.0)
    evidence = gather_evidence(model, test, [(["hue"], EVIL)], train=test, name=EVIL, origin=made)
    evidence.gates = [Verdict("accuracy", EVIL, 0.5, True, 1.0, True), Verdict("ece", EVIL, 0.1, False, 0.4, False)]
    return evidence


def test_the_hubs_library_reads_its_front_matter(evidence: Evidence, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card(evidence, "apache-2.0"), encoding="utf-8")
    read = ModelCard.load(tmp_path / "README.md")  # raises where model-index is not as the Hub wants it
    assert read.data.license == "apache-2.0" and read.data.library_name == "onetrunk" and "onetrunk" in read.data.tags
    results = {result.metric_type: result for result in read.data.eval_results or []}
    [task] = evidence.tasks
    assert results.keys() == {name for name, value in task.metrics.items() if value is not None}
    assert results["accuracy"].metric_value == task.metrics["accuracy"] == 1.0
    assert results["accuracy"].task_type == "other" and results["accuracy"].dataset_name
    again = ModelCard(str(read))
    assert again.data.to_dict() == read.data.to_dict(), "what it writes is what it read"


def test_a_card_without_figures_is_one_too() -> None:
    read = ModelCard(card(Evidence("model", [])))
    assert read.data.license == "other" and not read.data.eval_results


def test_what_the_card_tells_of_cost_and_gates(evidence: Evidence) -> None:
    text = ModelCard(card(evidence)).text
    assert "- Run of train, 2026-11-29T03:00:00Z: 1 min 30 s, 12.5 Wh (measured), 5.9 g of CO2, at most 2 GB" in text
    assert "- All runs: 3 min 0 s, 25 Wh, 11.8 g of CO2" in text
    assert "measured: RAPL of package-0" in text and "CO2 at 473 g a kWh" in text
    assert "- kept: Accuracy of " in text and "- **failed**: Calibration error of " in text
    assert "<script" not in text and text.count("\n---") == 0, "names are no markup"
