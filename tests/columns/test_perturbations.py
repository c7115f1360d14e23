"""Values that get worse: contract for every type that says how, and what each way does, measured."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import worlds
from PIL import Image

from onetrunk.columns.audio.perturbations import lengthened, mixed
from onetrunk.columns.text.perturbations import text_perturbations, typos
from onetrunk.core.perturbation import Draw, Perturbation, Perturbed
from onetrunk.core.registry import column_types
from onetrunk.evaluation.audit.robustness import disturbed, without_cells
from onetrunk.media.audio import open_audio
from onetrunk.media.image import open_image


def _ways() -> list[Any]:
    out = []
    for case in worlds.CASES.values():
        if issubclass(column_types.get(case.type).evaluation, Perturbed) and case.inferred:
            evaluation = column_types.get(case.type).evaluation(worlds.fitted(case).encoder)
            out += [pytest.param(case, way, id=f"{case.type}-{way.name}") for way in evaluation.perturbations()]
    return out


def _way(kind: str, name: str) -> Perturbation:
    case = next(case for case in worlds.CASES.values() if case.type == kind)
    evaluation = column_types.get(kind).evaluation(worlds.fitted(case).encoder)
    return next(way for way in evaluation.perturbations() if way.name == name)


def _content(encoder: Any, value: Any) -> list[Any]:
    return [array.tobytes() for array in encoder.encode(value).values()]


@pytest.mark.parametrize(("case", "way"), _ways())
def test_changed_values_are_values_and_depend_on_their_keys_alone(case: worlds.Case, way: Perturbation) -> None:
    encoder = worlds.fitted(case).encoder
    for severity in way.severities:
        once = disturbed(way, severity, [*case.values, None], 1)
        assert once[-1] is None
        contents = [_content(encoder, value) for value in once[:-1]]
        again = [_content(encoder, value) for value in disturbed(way, severity, case.values, 1)]
        assert contents == again
    alone = way.change(case.values[0], way.severities[-1], Draw(5, case.values))
    assert _content(encoder, alone) == _content(
        encoder, way.change(case.values[0], way.severities[-1], Draw(5, case.values))
    )


# -- texts -----------------------------------------------------------------------------------------------------------
TEXT = "".join(np.random.default_rng(0).choice(list("abcdefghijklmnopqrstuvwxyzABC   "), 1000))


def test_typing_errors_are_as_many_as_told_and_more_at_higher_severities() -> None:
    from difflib import SequenceMatcher

    same = []
    for share in (0.02, 0.05, 0.15):
        wrong = typos(TEXT, share, 7)
        same.append(SequenceMatcher(None, TEXT, wrong, autojunk=False).ratio())
        assert abs(len(wrong) - len(TEXT)) < 3 * share * len(TEXT)
    assert all(a > b for a, b in pairwise([1.0, *same])) and 0.75 < same[-1] < 0.95
    assert typos("房间很干净 123", 1.0, 7) == "房间很干净 123"


def test_chinese_characters_become_others_that_sound_or_look_alike() -> None:
    _, homophones, lookalikes = text_perturbations()
    draw = Draw(3, [])
    text = "他在这里的房间"
    sounds = homophones.change(text, 1.0, draw)
    assert len(sounds) == len(text) and sounds[0] in "她它塔" and sounds[1] in "再载"
    assert lookalikes.change("未来的土地", 1.0, draw)[0] == "末"
    assert homophones.change("a text", 1.0, draw) == "a text"
    untouched = "a text"
    assert homophones.change(untouched, 1.0, draw) is untouched
    chat = [{"role": "user", "content": "Hello"}]
    assert text_perturbations()[0].change(chat, 1.0, draw) is chat


# -- pictures --------------------------------------------------------------------------------------------------------
def _picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def test_noise_has_its_standard_deviation_and_blur_takes_contrast() -> None:
    grey = Image.fromarray(np.full((200, 200), 128, dtype=np.uint8))
    noisy = np.asarray(_way("image", "noise").change(grey, 0.1, Draw(1, [])), dtype=float)
    assert noisy.std() == pytest.approx(25.5, rel=0.03) and noisy.mean() == pytest.approx(128, abs=0.5)
    sharp = _picture()
    spreads = [np.asarray(open_image(_way("image", "blur").change(sharp, s, Draw(1, [])))).std() for s in (0.01, 0.06)]
    assert np.asarray(sharp).std() > spreads[0] > spreads[1]


def test_jpeg_of_low_quality_is_further_away() -> None:
    way, picture = _way("image", "JPEG"), _picture()
    away = [
        np.abs(np.asarray(way.change(picture, q, Draw(1, [])), dtype=float) - np.asarray(picture)).mean()
        for q in way.severities
    ]
    assert 0 < away[0] < away[1] < away[2]


# -- sounds ----------------------------------------------------------------------------------------------------------
RATE = 8000


def _tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE).astype(np.float32)


def _pitch(samples: np.ndarray, rate: int = RATE) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * rate / len(samples))


def test_a_sound_behind_another_is_so_many_decibels_below() -> None:
    loud, other = 0.5 * _tone(400), 3 * _tone(1000)
    behind = mixed(loud, other, 10) - loud
    assert 10 * np.log10(np.mean(loud**2) / np.mean(behind**2)) == pytest.approx(10, abs=0.01)


def test_speed_moves_length_and_pitch_and_pitch_moves_pitch_alone() -> None:
    sound = (RATE, 0.5 * _tone(500))
    ways = []
    for key in range(12):
        rate, fast = open_audio(_way("audio", "speed").change(sound, 1.25, Draw(key, [])))
        factor = RATE / len(fast)
        assert rate == RATE and factor == pytest.approx(1.25 if factor > 1 else 0.8, rel=0.01)
        assert _pitch(fast) == pytest.approx(500 * factor, rel=0.01)
        _, high = open_audio(_way("audio", "pitch").change(sound, 4, Draw(key, [])))
        assert len(high) == RATE
        ways.append(_pitch(high) / 500)
        assert ways[-1] == pytest.approx(2 ** (4 / 12) if ways[-1] > 1 else 2 ** (-4 / 12), rel=0.01)
    assert min(ways) < 1 < max(ways)


def test_a_lengthened_sound_keeps_its_pitch() -> None:
    longer = lengthened(_tone(440), 1.5, RATE)
    assert len(longer) == pytest.approx(1.5 * RATE, rel=0.05) and _pitch(longer[1000:-1000]) == pytest.approx(
        440, rel=0.01
    )


# -- any column ------------------------------------------------------------------------------------------------------
def test_about_the_told_share_of_cells_goes_missing_and_more_go_later() -> None:
    columns = {"a": list(range(1000)), "b": [None, *range(999)], "asked": list(range(1000))}
    some, share = without_cells(columns, ["a", "b"], 0.3, 1)
    more, _ = without_cells(columns, ["a", "b"], 0.6, 1)
    assert share == pytest.approx(0.3, abs=0.03) and some["asked"] == columns["asked"]
    gone, later = ({i for i, v in enumerate(made["a"]) if v is None} for made in (some, more))
    assert gone < later


def test_inexact_numbers_are_off_by_their_share_of_the_spread() -> None:
    case = next(case for case in worlds.CASES.values() if case.type == "number")
    encoder = worlds.fitted(case).encoder
    way = _way("number", "inexactness")
    off = [float(way.change(10.0, 0.3, Draw(int(key), []))) - 10 for key in worlds.keys(400, "inexact")]
    assert np.std(off) == pytest.approx(0.3 * encoder.scale, rel=0.1)
