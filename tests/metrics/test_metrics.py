"""Every metric against scikit-learn, SciPy, a closed form, or figures of sacrebleu."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy import stats

from onetrunk.metrics import images
from onetrunk.metrics.classification import classification, multilabel, per_class
from onetrunk.metrics.regression import regression
from onetrunk.metrics.sound import aligned_mean, log_spectral_distance, mel_cepstral_distortion
from onetrunk.metrics.text import (
    character_error_rate,
    edit_distance,
    exact_match,
    likelihood,
    ngram_nats,
    word_error_rate,
)

rng = np.random.default_rng(0)


def _answers(classes: list[str], n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    truth = rng.choice(classes, n)
    logits = rng.normal(size=(n, len(classes))) + 1.5 * (truth[:, None] == np.array(classes))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return truth, np.array(classes)[p.argmax(1)], p


@pytest.mark.parametrize("classes", [["no", "yes"], ["a", "b", "c", "d"]])
def test_classification_agrees_with_scikit_learn(classes: list[str]) -> None:
    truth, answer, p = _answers(classes)
    result = classification(truth, answer, p, classes)
    binary = len(classes) == 2
    expected = {
        "accuracy": sk.accuracy_score(truth, answer),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, answer),
        "f1_macro": sk.f1_score(truth, answer, average="macro"),
        "auc": sk.roc_auc_score(truth == "yes", p[:, 1]) if binary else sk.roc_auc_score(truth, p, multi_class="ovr"),
        "log_loss": sk.log_loss(truth, p, labels=classes),
        "brier": ((p - (truth[:, None] == np.array(classes))) ** 2).sum(1).mean() / (2 if binary else 1),
        "unseen": 0.0,
    }
    assert next(iter(result)) == "accuracy"
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, rel=1e-9), name


def test_brier_of_two_classes_is_scikit_learns() -> None:
    truth, answer, p = _answers(["no", "yes"])
    result = classification(truth, answer, p, ["no", "yes"])
    assert result["brier"] == pytest.approx(sk.brier_score_loss(truth == "yes", p[:, 1]))


def test_calibration_error_by_hand() -> None:
    # Confidence .9, right half the time: a gap of .4 for two rows; confidence .6, always right: .4 again.
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    result = classification(["a", "b", "a", "a"], ["a"] * 4, p, ["a", "b"])
    assert result["ece"] == pytest.approx(0.4)


def test_a_label_unseen_in_training_counts_as_wrong() -> None:
    p = np.array([[0.8, 0.2], [0.3, 0.7], [1.0, 0.0]])
    result = classification(["a", "b", "new"], ["a", "b", "a"], p, ["a", "b"])
    assert result["unseen"] == 1
    assert result["accuracy"] == pytest.approx(2 / 3)
    assert result["balanced_accuracy"] == pytest.approx(2 / 3)
    assert result["auc"] == 1.0
    assert result["log_loss"] == pytest.approx(-np.log([0.8, 0.7]).mean())
    assert result["brier"] == pytest.approx((0.2**2 * 2 + 0.3**2 * 2 + 2.0) / 3 / 2)


def test_undefined_is_none_not_zero() -> None:
    one_class = classification(["a", "a"], ["a", "b"], np.array([[0.9, 0.1], [0.4, 0.6]]), ["a", "b"])
    assert one_class["auc"] is None and one_class["accuracy"] == 0.5
    assert classification(["a"], ["a"], None, ["a", "b"])["log_loss"] is None
    empty = classification([], [], np.zeros((0, 2)), ["a", "b"])
    assert empty.pop("unseen") == 0 and set(empty.values()) == {None}
    assert regression([3.0, 3.0], [1.0, 2.0])["r2"] is None
    assert regression([1.0, 2.0], [5.0, 5.0])["spearman"] is None
    assert set(regression([], []).values()) == {None}
    assert exact_match([], []) is None and character_error_rate([""], ["x"]) is None


def test_per_class_agrees_with_scikit_learn() -> None:
    truth, answer, _ = _answers(["a", "b", "c"], 80)
    truth = np.append(truth[1:], "new")
    precision, recall, f1, rows = sk.precision_recall_fscore_support(truth, answer, zero_division=0)
    table = per_class(truth, answer)
    assert [row["class"] for row in table] == ["a", "b", "c", "new"]
    for name, values in zip(["precision", "recall", "f1", "rows"], [precision, recall, f1, rows], strict=True):
        np.testing.assert_allclose([row[name] for row in table], values)


def test_multilabel_agrees_with_scikit_learn() -> None:
    classes = ["x", "y", "z"]
    hot = rng.random((120, 3)) < 0.4
    p = np.clip(hot * 0.5 + rng.random((120, 3)) * 0.6, 0, 1)
    truths = [[c for c, on in zip(classes, row, strict=True) if on] for row in hot]
    result = multilabel(truths, p, classes)
    assert result["f1_micro"] == pytest.approx(sk.f1_score(hot, p >= 0.5, average="micro"))
    assert result["f1_macro"] == pytest.approx(sk.f1_score(hot, p >= 0.5, average="macro"))
    assert result["mAP"] == pytest.approx(sk.average_precision_score(hot, p, average="macro"))


def test_an_unseen_label_among_several_is_a_miss() -> None:
    result = multilabel([["x", "new"]], np.array([[0.9, 0.1]]), ["x", "y"])
    assert result["unseen"] == 1
    assert result["f1_micro"] == pytest.approx(2 / 3)  # one hit, one miss
    assert result["f1_macro"] == pytest.approx(1 / 2)


def test_regression_agrees_with_references() -> None:
    y = rng.integers(0, 20, 200).astype(float)  # with ties
    f = y + rng.normal(size=200)
    result = regression(y, f)
    assert next(iter(result)) == "rmse"
    assert result["rmse"] == pytest.approx(sk.root_mean_squared_error(y, f))
    assert result["mae"] == pytest.approx(sk.mean_absolute_error(y, f))
    assert result["medae"] == pytest.approx(sk.median_absolute_error(y, f))
    assert result["r2"] == pytest.approx(sk.r2_score(y, f))
    assert result["spearman"] == pytest.approx(stats.spearmanr(y, f).statistic)


def test_distribution_metrics() -> None:
    y = rng.normal(size=400)
    levels = (np.arange(200) + 0.5) / 200
    quantiles = np.tile(stats.norm.ppf(levels), (400, 1))
    interval = np.tile(stats.norm.ppf([0.05, 0.95]), (400, 1))
    result = regression(y, np.zeros(400), interval, quantiles, levels)
    # CRPS of a standard normal forecast in closed form (Gneiting and Raftery 2007).
    exact = y * (2 * stats.norm.cdf(y) - 1) + 2 * stats.norm.pdf(y) - 1 / np.sqrt(np.pi)
    assert result["crps"] == pytest.approx(exact.mean(), rel=2e-3)
    assert result["coverage"] == pytest.approx((np.abs(y) < 1.6449).mean())
    assert result["interval_width"] == pytest.approx(2 * 1.644854, rel=1e-6)


def test_edit_distance() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == edit_distance("abc", "") == 3
    assert edit_distance("你好世界", "你好,世界") == 1

    def slow(a: str, b: str) -> int:
        if not a or not b:
            return len(a) + len(b)
        return min(slow(a[1:], b) + 1, slow(a, b[1:]) + 1, slow(a[1:], b[1:]) + (a[0] != b[0]))

    for _ in range(60):
        a, b = ("".join(rng.choice(list("abc"), rng.integers(0, 6))) for _ in range(2))
        assert edit_distance(a, b) == slow(a, b)
    assert character_error_rate(["seven", "one"], ["eleven", "one"]) == pytest.approx(3 / 8 - 1 / 8)
    assert exact_match(["seven", "one"], ["eleven", "one"]) == 0.5


def test_errors_of_words_and_characters_are_jiwers() -> None:
    jiwer = pytest.importorskip("jiwer")
    words = ["one", "two", "three", "four", "five"]
    truths = [" ".join(rng.choice(words, rng.integers(1, 7))) for _ in range(40)]
    answers = [" ".join(rng.choice(words, rng.integers(0, 7))) for _ in range(40)]
    assert word_error_rate(truths, answers) == pytest.approx(jiwer.wer(truths, answers))
    assert character_error_rate(truths, answers) == pytest.approx(jiwer.cer(truths, answers))
    assert word_error_rate(["one two"], ["two"]) == 0.5 and word_error_rate([""], ["one"]) is None


# -- sound ---------------------------------------------------------------------------------------------------
def test_time_warping_agrees_with_the_plain_recursion() -> None:
    def slow(cost: np.ndarray) -> float:
        best: dict[tuple[int, int], tuple[float, int]] = {(0, 0): (cost[0, 0], 1)}
        for i, j in np.ndindex(cost.shape):
            before = [best[p] for p in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if p in best]
            if before:
                total, steps = min(before, key=lambda b: b[0])
                best[i, j] = total + cost[i, j], steps + 1
        total, steps = best[cost.shape[0] - 1, cost.shape[1] - 1]
        return total / steps

    for _ in range(20):
        cost = rng.random((rng.integers(1, 9), rng.integers(1, 9)))
        assert aligned_mean(cost) == pytest.approx(slow(cost))


def test_distances_of_spectra_are_decibels_wherever_in_time() -> None:
    x = rng.normal(size=(20, 32))
    slower = np.repeat(x, 2, axis=0)
    decibel = np.log(10) / 10
    for distance in (mel_cepstral_distortion, log_spectral_distance):
        assert distance(x, x) == pytest.approx(0, abs=1e-6) == distance(x, slower)
    assert log_spectral_distance(x, x + 3 * decibel) == pytest.approx(3), "every band 3 dB louder"
    assert mel_cepstral_distortion(x, x + 3 * decibel) == pytest.approx(0, abs=1e-6), "loudness does not count"
    # One cepstral coefficient off by c: 10 / ln 10 * sqrt(2) * c, and log power is twice log magnitude.
    ripple = 2 * 2 * 0.1 * np.cos(np.pi * 3 * (np.arange(32) + 0.5) / 32)
    assert mel_cepstral_distortion(x[:1], x[:1] + ripple) == pytest.approx(10 / np.log(10) * 2**0.5 * 0.1)


def test_likelihood() -> None:
    result = likelihood(-10 * np.log(8), tokens=10, n_bytes=15)
    assert result == {"perplexity": pytest.approx(8.0), "bits_per_byte": pytest.approx(2.0)}


def test_images() -> None:
    a, b = rng.random((30, 5, 5)), rng.random((40, 5, 5))
    b[7] = a[3] + 1e-9
    distance, index = images.nearest(a, b)
    full = np.sqrt(((a.reshape(30, 1, -1) - b.reshape(1, 40, -1)) ** 2).sum(-1))
    np.testing.assert_array_equal(index, full.argmin(1))
    np.testing.assert_allclose(distance, full.min(1), rtol=1e-9)
    with pytest.raises(ValueError, match="at least one"):
        images.nearest(a, b[:0])


def test_runs_of_bytes_share_out_one_probability() -> None:
    """Over all that may follow, of every length up to two bytes, it adds up to less than one, and nearly to it."""
    train = ["aab", "ab", "b"]
    nats = ngram_nats(train, ["", "a", "b", "aa", "ab", "ba", "bb"], 3)
    assert 0.5 < np.exp(-nats).sum() < 1
    one = ngram_nats(["ab"], ["a"], 1)[0]  # counts a, b, end: (1 + 3 / 257) / (3 + 3) each
    assert one == pytest.approx(-2 * math.log((1 + 3 / 257) / 6))
    english = ["the cat sat on the mat", "the dog sat on the log"] * 5
    assert ngram_nats(english, ["the cat sat"], 4)[0] < ngram_nats(english, ["tac eht tas"], 4)[0]


def test_thousands_of_classes_are_judged_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranked a part of the classes at a time; as scikit-learn's, class by class."""
    monkeypatch.setattr("onetrunk.metrics.classification._RANKED_AT_ONCE", 10_000)
    draw = np.random.default_rng(0)
    names = [f"c{k}" for k in range(3000)]
    truths = [names[k] for k in draw.integers(0, 60, 1000)] + ["unseen"]
    p = np.round(draw.dirichlet(np.full(3000, 0.1), 1001), 4)  # with ties
    result = classification(truths, truths, p, names)
    hot = np.array([[truth == name for name in names[:60]] for truth in truths[:-1]])
    areas = [sk.roc_auc_score(hot[:, k], p[:-1, k]) for k in range(60)]
    assert result["auc"] == pytest.approx(np.mean(areas), abs=1e-12) and result["unseen"] == 1
