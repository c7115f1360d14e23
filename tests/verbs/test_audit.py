"""The verb audit: what it finds of a model that treats groups differently, and of what it cannot do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onetrunk
from onetrunk.core.errors import DataError, UsageError
from onetrunk.evaluation.audit.adversary import adversary
from onetrunk.evaluation.audit.asked import AskedRows
from onetrunk.evaluation.audit.canaries import make_canaries
from onetrunk.evaluation.audit.page import page
from onetrunk.evaluation.audit.record import AskedAudit, Audit, Fairness, Finding, GroupFigure, GroupMetric, Security
from onetrunk.evaluation.audit.sentences import summary
from onetrunk.evaluation.intervals import Interval
from onetrunk.storage import atomic

QUICK = ["finetune.steps=60", "finetune.folds=2", "train.tensorboard=false"]
GOOD, BAD = ["warm", "clean", "quiet", "lovely"], ["cold", "dirty", "noisy", "broken"]


def table(n: int = 400) -> dict[str, list[Any]]:
    """Reviews whose words tell their label; of women they tell the wrong one in a third of the rows. Nobody gives the
    model the sex."""
    dice = np.random.default_rng(0)
    rows: dict[str, list[Any]] = {"review": [], "nights": [], "sex": [], "label": [], "part": []}
    for i in range(n):
        good, sex = bool(dice.random() < 0.5), "fm"[i % 2]
        told = good if sex == "m" or dice.random() < 0.65 else not good
        one, two = dice.choice(GOOD if told else BAD, 2)
        rows["review"].append(f"{one} room {i}, {two} bed")
        rows["nights"].append(int(dice.integers(1, 15)))
        rows["sex"].append(sex)
        rows["label"].append("good" if good else "bad")
        rows["part"].append("train" if i % 4 < 2 else "test")
    return rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("audit") / "model"
    onetrunk.finetune(
        table(), ask="label", given=["review", "nights"], split="given:part", out=str(out), size="nano", settings=QUICK,
        quiet=True,
    )  # fmt: skip
    return out


def test_all_of_it_is_found_and_kept(model: Path) -> None:
    audit = onetrunk.audit(str(model), table(), sensitive="sex", quiet=True)
    assert audit.what == ["fairness", "slices", "robustness", "privacy", "security"]
    (asked,) = audit.asked
    assert asked.rows == 200 and asked.score.value > 0.7
    (by_sex,) = asked.fairness
    assert not by_sex.given and by_sex.rows == 200
    accuracy = next(metric for metric in by_sex.metrics if metric.name == "accuracy")
    assert (accuracy.gap.high, accuracy.gap.low) == ("m", "f") and not accuracy.gap.is_chance
    right = {figure.group: figure.value.value for figure in accuracy.groups}
    assert right["m"] == pytest.approx(1.0, abs=0.05) and right["f"] == pytest.approx(0.65, abs=0.12)
    ways = {(way.column, way.name) for way in asked.robustness}
    assert ways >= {("review", "typos"), ("nights", "inexactness"), ("", "missing cells")}
    assert ("review", "homophones") not in ways, "there is no Chinese to change"
    typos = next(way for way in asked.robustness if way.name == "typos")
    assert [step.severity for step in typos.steps] == [0.02, 0.05, 0.15]
    assert typos.steps[-1].lost.value > 0.02 and typos.steps[-1].score.value < asked.score.value
    assert asked.adversary.rows == 200 and asked.undisturbed == asked.score, "all of them are disturbed"
    lost = asked.undisturbed.value - typos.steps[-1].score.value
    assert typos.steps[-1].lost.value == pytest.approx(lost)
    worst = asked.slices.worst[0]
    assert (worst.column, worst.group) == ("sex", "f") and worst.behind > asked.slices.by_chance and worst.p < 0.01
    assert worst.score.value == right["f"] and worst.elsewhere == right["m"]
    membership = asked.privacy.membership
    assert (membership.members, membership.others) == (180, 200)  # 20 were held out for validation
    assert [attack.score for attack in membership.attacks] == ["loss", "loss, less how hard the row is"]
    assert not [finding for finding in audit.security.findings if finding.serious]

    kept = json.loads((model / "evidence" / "audit.json").read_text())
    assert kept["asked"][0]["score"]["value"] == asked.score.value and kept["format"] == 1
    assert "audit.html" in {path.name for path in (model / "evidence").iterdir()}
    atomic.verify(model)
    onetrunk.load(model)


def test_embeddings_move_as_far_as_told_and_against_the_truth_hurts_more(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = onetrunk.load(model)
    rows = AskedRows.of(opened, table(80), "label", ["review", "nights"])
    real, moved = opened.network.encode, []

    def watched(batch: Any, embeddings: Any = None, **rest: Any) -> Any:
        if embeddings is not None:
            own = real(batch, capture=[f"embedding.{name}" for name in embeddings]).captured
            for name, whole in embeddings.items():
                before, each = own[f"embedding.{name}"].detach(), whole.detach()
                moved.append(float(((each - before).norm(dim=1) / before.norm(dim=1)).max()))
        return real(batch, embeddings, **rest)

    monkeypatch.setattr(opened.network, "encode", watched)
    found = adversary(opened, rows)
    assert found.rows == 80 and max(moved) == pytest.approx(0.1, abs=1e-3)
    assert all(shift.against.value <= shift.anywhere.value for shift in found.shifts)
    kept = [shift.against.value for shift in found.shifts]
    assert found.unmoved.value >= kept[0] >= kept[1] >= kept[2] and kept[2] < found.unmoved.value


def test_the_same_again(model: Path, tmp_path: Path) -> None:
    one, other = (
        onetrunk.audit(str(model), table(100), what=["robustness"], out=str(tmp_path / name), quiet=True)
        for name in "ab"
    )
    assert one.asked == other.asked
    assert (tmp_path / "a" / "audit.html").exists() and json.loads((tmp_path / "b" / "audit.json").read_text())


def test_security_alone_needs_no_rows(model: Path, tmp_path: Path) -> None:
    audit = onetrunk.audit(str(model), out=str(tmp_path), quiet=True)
    assert audit.what == ["security"] and audit.asked == [] and audit.security.digests > 5


def test_what_cannot_be_done_is_said(model: Path) -> None:
    with pytest.raises(UsageError, match="need rows with known answers"):
        onetrunk.audit(str(model), what=["privacy"], quiet=True)
    with pytest.raises(UsageError, match="--sensitive COLUMN"):
        onetrunk.audit(str(model), table(), what=["fairness"], quiet=True)
    with pytest.raises(UsageError, match="which --what leaves out"):
        onetrunk.audit(str(model), table(), what=["security"], sensitive=["sex"], quiet=True)
    with pytest.raises(UsageError, match="Did you mean 'privacy'"):
        onetrunk.audit(str(model), table(), what=["privcy"], quiet=True)
    with pytest.raises(UsageError, match="Unknown column 'gender'"):
        onetrunk.audit(str(model), table(), sensitive=["gender"], quiet=True)
    learnt = {name: [v for i, v in enumerate(values) if i % 4 < 2] for name, values in table().items()}
    with pytest.raises(DataError, match="trained on every row"):
        onetrunk.audit(str(model), learnt, what=["robustness"], quiet=True)


# -- a language model ------------------------------------------------------------------------------------------------
def test_planted_secrets_and_repeated_texts_of_a_writer(tmp_path: Path) -> None:
    """One that learns few short texts by heart: its canaries are exposed and its texts repeated."""
    dice = np.random.default_rng(0)
    texts = ["".join(dice.choice(list("abcdefgh"), 24)) for _ in range(60)]
    canaries = make_canaries("pin {}", 3, digits=3)
    rows = {"text": [*texts[:30] * 4, *canaries * 20, *texts[30:]], "part": ["train"] * 180 + ["test"] * 30}
    onetrunk.pretrain(
        rows, given=[], ask="text", split="given:part", out=str(tmp_path / "m"), size="nano", allow_equal_rows=True,
        settings=["pretrain.steps=100", "columns.text.unit=character", "train.tensorboard=false"],
        types={"text": "text"}, quiet=True,
    )  # fmt: skip
    audit = onetrunk.audit(
        str(tmp_path / "m"), {"text": rows["text"]}, ask="text", what=["privacy"], canaries={"text": canaries},
        quiet=True,
    )  # fmt: skip
    found = audit.asked[0].privacy
    assert [canary.value for canary in found.canaries] == canaries
    assert np.mean([canary.exposure for canary in found.canaries]) > 4
    assert found.membership.attacks[0].works and found.membership.attacks[0].auc.value > 0.8
    assert found.repetition.others.value == 0 and found.repetition.other_rows == 30


# -- the page --------------------------------------------------------------------------------------------------------
EVIL = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>\u202e\x00"


def test_the_page_shows_names_and_runs_nothing() -> None:
    figures = [GroupFigure(f"{EVIL}{i}", 40, Interval(0.1 * i, 0.05, 0.6)) for i in (1, 2)]
    metric = GroupMetric("selection_rate", EVIL, figures, None)
    audit = Audit(EVIL, ["fairness"], [AskedAudit(EVIL, [EVIL], 80, "accuracy", True, None)], made="today")
    audit.asked[0].fairness.append(Fairness(EVIL, "one for each value", False, 80, 0, [metric]))
    audit.security = Security(1, 1, 0, [Finding(EVIL, EVIL, EVIL)])
    html = page(audit)
    assert "<script" not in html and "<img" not in html and "\x00" not in html
    assert "&lt;script&gt;" in html and re.search(r"default-src 'none'", html)
    assert len(summary(audit)) == 2
