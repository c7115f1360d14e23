"""What is drawn is judged as a draw: not by the squared error of one, which the mean of all would win."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from evidence_fakes import Colour

from onetrunk.columns.audio.encoder import AudioEncoder
from onetrunk.columns.audio.evaluation import AudioEvaluation
from onetrunk.columns.image.encoder import ImageEncoder
from onetrunk.columns.image.evaluation import ImageEvaluation
from onetrunk.columns.video.encoder import VideoEncoder
from onetrunk.columns.video.evaluation import VideoEvaluation
from onetrunk.core.answer import Answer
from onetrunk.evaluation.drawn import drawn_answers, readings
from onetrunk.media.audio import wav
from onetrunk.metrics.energy import energy_scores


def _bar(dice: np.random.Generator, lies: bool, noise: float = 12.0) -> np.ndarray:
    """[16, 16] grey: a white bar at any of 16 places, lying or standing."""
    picture = np.zeros((16, 16))
    picture[dice.integers(16)] = 255
    picture += dice.normal(0, noise, picture.shape)
    return np.clip(picture if lies else picture.T, 0, 255).astype(np.uint8)


def _pictures(n: int, seed: int) -> list[np.ndarray]:
    dice = np.random.default_rng(seed)
    return [_bar(dice, i % 2 == 0) for i in range(n)]


def _evaluation(values: Sequence[Any]) -> ImageEvaluation:
    encoder = ImageEncoder({"size": 16, "patch": 4})
    encoder.fit(values)
    return ImageEvaluation(encoder)


def test_who_draws_as_the_data_do_beats_the_mean_picture() -> None:
    truths = _pictures(200, 0)
    evaluation = _evaluation(truths)
    mean = np.mean(truths, axis=0).round().astype(np.uint8)
    drawn = [Answer(a, samples=[a, b]) for a, b in zip(_pictures(200, 1), _pictures(200, 2), strict=True)]
    ours, theirs = (evaluation.measure(a, truths)["energy_score"] for a in (drawn, [Answer(mean)] * 200))
    assert ours < theirs
    one = np.mean([((a.value.astype(float) - t) ** 2).mean() for a, t in zip(drawn, truths, strict=True)])
    assert one > np.mean([((mean.astype(float) - t) ** 2).mean() for t in truths]), (
        "the squared error says the contrary"
    )
    swapped = [Answer(a, samples=[a, b]) for a, b in zip(_pictures(201, 3)[1:], _pictures(201, 4)[1:], strict=True)]
    assert evaluation.measure(swapped, truths)["energy_score"] > ours, "what lies should stand"


def test_the_energy_score_by_hand() -> None:
    def rows(values: Sequence[Any]) -> np.ndarray:
        return np.array(values, dtype=float).reshape(-1, 1)

    answers = [Answer(1.0, samples=[1.0, 4.0]), Answer(2.0, samples=[2.0, 2.0])]
    assert energy_scores(answers, [2.0, 5.0], rows).tolist() == [(1 + 2) / 2 - 3 / 2, 3.0]
    assert energy_scores([Answer(1.0)], [3.0], rows).tolist() == [2.0]


def test_one_drawn_again_and_again_has_no_spread() -> None:
    pictures = _pictures(40, 0)
    answers = _evaluation(pictures).novelty([Answer(pictures[0])] * 40, pictures, pictures)
    assert answers["spread"] == 0 < answers["spread_of_true"]


@pytest.mark.parametrize("colours", [1, 3])
def test_simple_models_see_few_numbers_of_pictures(colours: int) -> None:
    shape = (128, 128, 3) if colours == 3 else (128, 128)
    values = list(np.random.default_rng(0).integers(0, 256, (6, *shape), dtype=np.uint8))
    encoder = ImageEncoder({"size": 128, "patch": 16})
    encoder.fit(values)
    x = ImageEvaluation(encoder).features().fit_transform([*values, None])
    assert x.shape[0] == 7 and x.shape[1] < 1000 and np.isfinite(x).all()


def test_simple_models_see_few_numbers_of_films_and_recordings() -> None:
    dice = np.random.default_rng(0)
    films = [dice.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8) for _ in range(3)]
    encoder = VideoEncoder({"size": 32})
    encoder.fit(films)
    assert VideoEvaluation(encoder).features().fit_transform(films).shape[1] < 1000
    sounds = [wav(dice.normal(0, 0.1, 8000).astype(np.float32), 16_000) for _ in range(3)]
    heard = AudioEncoder({"bands": 128})
    heard.fit(sounds)
    assert AudioEvaluation(heard).features().fit_transform(sounds).shape[1] < 1000


class Painter:
    """Draws bars as the class says, or without looking at it."""

    def __init__(self, sides: Mapping[str, Any], looks: bool = True) -> None:
        self.sides, self.looks = sides, looks
        self.dice = np.random.default_rng(9)

    def evaluation(self, column: str) -> Any:
        return self.sides[column]

    encoder = evaluation

    def answer(
        self, columns: Mapping[str, Sequence[Any]], ask: str, given: Sequence[str], encoded: Any = None
    ) -> list[Answer]:
        return [Answer(_bar(self.dice, name == "lies" or not self.looks)) for name in columns["way"]]


def test_each_row_is_drawn_twice_and_a_simple_model_reads_what_was_given() -> None:
    train, truths = _pictures(120, 0), _pictures(60, 1)
    ways = [["lies", "stands"][i % 2] for i in range(120)]
    image = _evaluation(train)
    sides = {"image": image, "way": Colour(["lies", "stands"])}
    held_out = {"way": ways[:60]}
    shares = {}
    for looks in (True, False):
        model = Painter(sides, looks)
        answers = drawn_answers(model, image, held_out, "image", ["way"])
        assert len(answers) == 60 and all(len(a.samples) == 2 and a.samples[0] is a.value for a in answers)
        assert not np.array_equal(answers[0].samples[0], answers[0].samples[1])
        shares[looks] = readings(model, "image", {"image": train, "way": ways}, held_out, answers, truths)
    assert shares[True]["read_right"] > 0.9 < shares[True]["read_right_of_true"]
    assert shares[False]["read_right"] == pytest.approx(0.5, abs=0.05)
    assert readings(model, "image", {"image": train}, {}, answers, truths) == {}, "nothing was given"
