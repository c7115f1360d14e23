"""Attacks on privacy against what must come out: nothing where nothing was learnt, everything where all was."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from onetrunk.core.errors import UsageError
from onetrunk.evaluation.audit.canaries import alternatives, exposures, make_canaries
from onetrunk.evaluation.audit.copies import copies
from onetrunk.evaluation.audit.membership import attack, auc, membership, tpr_at
from onetrunk.evaluation.audit.repetition import repetition


def test_figures_are_those_of_scikit_learn() -> None:
    dice = np.random.default_rng(0)
    members, others = dice.normal(1, 1, 400).round(1), dice.normal(0, 1, 300).round(1)
    truth, score = np.r_[np.ones(400), np.zeros(300)], np.r_[members, others]
    assert auc(members, others) == pytest.approx(roc_auc_score(truth, score))
    false, found, _ = roc_curve(truth, score, drop_intermediate=False)
    assert tpr_at(members, others) == pytest.approx(found[false <= 0.01].max())


def test_scores_that_know_nothing_are_no_better_than_chance() -> None:
    dice = np.random.default_rng(1)
    found = [attack("loss", dice.normal(size=300), dice.normal(size=300), seed) for seed in range(6)]
    assert sum(each.works for each in found) <= 1
    assert all(each.auc.low < 0.5 < each.auc.high for each in found[:2])
    by_chance = 0.5 + 2.326 * math.sqrt(601 / 12) / 300  # Mann and Whitney's variance
    assert np.mean([each.auc_by_chance for each in found]) == pytest.approx(by_chance, abs=0.01)


def test_one_member_in_ten_that_is_learnt_by_heart_is_found() -> None:
    """The mean hardly moves, the share at 1 % false alarms does."""
    dice = np.random.default_rng(2)
    members, others = dice.normal(size=1000), dice.normal(size=1000)
    members[:100] += 6
    found = attack("loss", members, others)
    assert found.works and found.tpr.value == pytest.approx(0.11, abs=0.02) and found.tpr_p < 0.01
    assert found.tpr.low < 0.11 < found.tpr.high


def test_too_few_rows_are_not_attacked() -> None:
    assert membership({"loss": np.zeros(10)}, {"loss": np.zeros(500)}) is None
    assert "less than one" in membership({"loss": np.zeros(50)}, {"loss": np.zeros(50)}).note


# -- planted secrets -------------------------------------------------------------------------------------------------
def test_exposure_of_what_is_known_of_what_is_not_and_of_what_is_half_known() -> None:
    texts = make_canaries("my code is {}", 8, digits=4)
    assert len(set(texts)) == 8 and all(text.startswith("my code is ") and len(text) == 15 for text in texts)
    known = exposures(texts, lambda some: np.arange(len(some)) * 1.0, most=500)  # the canary comes first
    assert [c.exposure for c in known] == [pytest.approx(math.log2(501))] * 8 == [c.most for c in known]
    nothing = exposures(texts, lambda some: np.ones(len(some)), most=500)
    assert [c.exposure for c in nothing] == [pytest.approx(math.log2(501 / 251))] * 8
    first = exposures(texts, lambda some: np.array([abs(int(t[11]) - int(texts[0][11])) for t in some]), most=5000)[0]
    assert first.exposure == pytest.approx(math.log2(10) + 1, abs=0.2)  # a digit, and half of the ties


def test_secrets_that_nobody_knows_have_log2_e_bits_in_the_mean() -> None:
    dice = np.random.default_rng(0)
    texts = make_canaries("{}", 300, digits=6)
    found = exposures(texts, lambda some: dice.random(len(some)), most=100)
    assert np.mean([c.exposure for c in found]) == pytest.approx(1 / math.log(2), abs=0.2)


def test_alternatives_are_all_others_or_so_many() -> None:
    assert sorted(alternatives("pin 07")) == sorted(f"pin {k:02}" for k in range(100) if k != 7)
    many = alternatives("a 12345 b 6", most=300)
    assert len(set(many)) == 300 and "a 12345 b 6" not in many
    assert all(text.startswith("a ") and text[7:10] == " b " for text in many)


def test_what_is_no_canary_is_refused() -> None:
    with pytest.raises(UsageError, match="expects digits"):
        alternatives("no secret")
    with pytest.raises(UsageError, match=r"holds \{\} once"):
        make_canaries("no place", 3)
    with pytest.raises(UsageError, match="no more canaries than its digits"):
        make_canaries("{}", 11, digits=1)


# -- repetition ------------------------------------------------------------------------------------------------------
def _texts(first: int, count: int) -> list[str]:
    dice = np.random.default_rng(first)
    return ["".join(dice.choice(list("abcdefgh "), 120)) for _ in range(count)]


def test_a_parrot_is_recognised_and_a_writer_is_not() -> None:
    learnt, others = _texts(0, 60), _texts(1, 40)

    def parrot(beginnings, length):
        rest = {text[:50]: text[50:] for text in learnt[:30]}
        return [rest.get(beginning, "something else altogether " * 3) for beginning in beginnings]

    found = repetition(learnt, others, parrot)
    assert (found.learnt.value, found.others.value, found.prompt) == (0.5, 0.0, 50)
    assert found.examples[0] == learnt[0][:100]
    assert repetition(learnt, others, lambda some, length: [""] * len(some)).learnt.value == 0
    assert repetition(["short"] * 50, ["short"] * 50, parrot) is None


# -- copies of what was learnt -----------------------------------------------------------------------------------------
def _nearest(values: list[float], known: list[float]) -> tuple[np.ndarray, np.ndarray]:
    apart = np.abs(np.array(values)[:, None] - np.array(known))
    return apart.min(1), apart.argmin(1)


def test_answers_that_are_drawn_as_others_are_are_no_copies_and_copies_are_found() -> None:
    dice = np.random.default_rng(0)
    learnt, others, drawn = (dice.random(200).tolist() for _ in range(3))
    found = copies(drawn, learnt, others, _nearest, lambda value: {"text": f"{value}"})
    assert found is not None and found.near.low <= found.by_chance == pytest.approx(2 / 201) and found.equal == 0
    copied = learnt[:30] + drawn[30:]
    found = copies(copied, learnt, others, _nearest, lambda value: {"text": f"{value}"})
    assert found is not None and found.near.low > found.by_chance and found.near.value >= 0.15 and found.equal == 30
    assert [each.distance for each in found.examples] == [0.0] * 4
    assert all(each.answer == each.nearest for each in found.examples)
    assert copies(drawn[:10], learnt, others, _nearest, lambda value: {}) is None


def test_pictures_and_molecules_know_their_nearest_training_value() -> None:
    from onetrunk.columns.image.encoder import ImageEncoder
    from onetrunk.columns.image.evaluation import ImageEvaluation
    from onetrunk.columns.molecule import chemistry
    from onetrunk.columns.molecule.encoder import MoleculeEncoder
    from onetrunk.columns.molecule.evaluation import MoleculeEvaluation

    dice = np.random.default_rng(0)
    known = [dice.integers(0, 256, (16, 16, 3)).astype(np.uint8) for _ in range(5)]
    changed = known[3].copy()
    changed[0, 0, 0] ^= 128
    distance, index = ImageEvaluation(ImageEncoder()).nearest_known([known[2], changed], known)
    assert distance[0] == 0 and index.tolist() == [2, 3]
    assert distance[1] == pytest.approx(128 / 255 / math.sqrt(16 * 16 * 3))
    judge = MoleculeEvaluation(MoleculeEncoder())
    distance, index = judge.nearest_known(["OCC", "c1ccccc1N", "CCCl"], ["CCO", "c1ccccc1O", "CCCl"])
    assert distance[0] == (0 if chemistry.available() else 1) and distance[2] == 0 and index[2] == 2
    if chemistry.available():
        expected = 1 - chemistry.similarity("c1ccccc1N", "c1ccccc1O")
        assert index.tolist() == [0, 1, 2] and distance[1] == pytest.approx(expected)
        assert judge.nearest_known(["no molecule"], ["CCO"])[0].tolist() == [1.0]
