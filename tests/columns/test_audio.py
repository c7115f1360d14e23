"""Audio: whatever is sound becomes a spectrogram, whatever is not is refused; patches, augmentation, speaking."""

from __future__ import annotations

import base64
import io
import struct
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import worlds
from scipy import signal

from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.content import Role, local_positions
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.media import audio as module
from onetrunk.media.audio import LogMel, open_audio, resampled, same_loudness, wav
from onetrunk.media.limits import MediaLimits

Audio = partial(worlds.Sides, "audio")

RATE = 8000
DICE = np.random.default_rng(0)
CHIRP = signal.chirp(np.arange(4000) / RATE, 200, 0.5, 3000).astype(np.float32) * 0.5
PLAIN = {"speed": 0, "pitch": 0, "gain": 0, "noise": 0, "mask": 0}


def fitted(values: list[Any], width: int | None = None, **options: Any) -> Any:
    sides = Audio({"bands": 16, "stem": 4, **options})
    sides.fit(values)
    if width:
        sides.build(width)
        worlds.wake(sides)
    return sides


def encoded(samples: np.ndarray, kind: str = "WAV", rate: int = RATE, subtype: str | None = None) -> bytes:
    place = io.BytesIO()
    soundfile.write(place, samples, rate, format=kind, subtype=subtype)
    return place.getvalue()


# -- reading -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_every_format_and_every_way_to_hold_it_is_one_sound(kind: str, tmp_path: Path) -> None:
    data = encoded(CHIRP, kind)
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(data)
    exact = kind in ("WAV", "FLAC", "AIFF")
    for way in (path, str(path), data, {"bytes": data, "path": None}, {"bytes": None, "path": str(path)}):
        rate, samples = open_audio(way)
        assert rate == RATE and samples.dtype == np.float32
        assert Audio().fingerprint(way) == Audio().fingerprint(path)
        if exact:
            assert np.abs(samples - CHIRP).max() < 1e-4
        else:  # lossy, and padded by the sides
            assert np.abs(signal.correlate(samples, CHIRP)).max() > 0.9 * (CHIRP**2).sum()


def test_arrays_of_every_kind_and_many_channels_are_one_sound() -> None:
    whole = np.round(CHIRP * 32767)
    ways = [
        CHIRP.astype(np.float64),
        whole.astype(np.int16),
        (whole * 65536).astype(np.int32),
        np.tile(CHIRP, (3, 1)).T,
    ]
    for way in [*ways, ((CHIRP + 1) * 127.5).round().astype(np.uint8)]:
        rate, samples = open_audio((RATE, way))
        assert rate == RATE and np.abs(samples - CHIRP).max() < 2e-2
    assert np.array_equal(open_audio(CHIRP, 123_456)[1], CHIRP), "an array alone has the rate that it is told"
    left = open_audio(encoded(np.stack([CHIRP, 0 * CHIRP], axis=1)))[1]
    assert np.abs(left - CHIRP / 2).max() < 1e-4


def changed(data: bytes, at: int, form: str, value: int) -> bytes:
    return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "the bytes is not a readable recording"),
        (b"RIFF but not sound", "not a readable recording"),
        ("nowhere.wav", "nowhere.wav: no such file"),
        (encoded(CHIRP[:0]), "too short: 0 samples"),
        (encoded(CHIRP[:1]), "too short: 1 samples at 8,000 Hz, expected 10 ms"),
        (encoded(0 * CHIRP), "is silent"),
        ((RATE, np.full(4000, 0.3)), "is silent"),
        (encoded(CHIRP)[:3000], r"its header promises 8,000 bytes, it holds 2956"),
        (changed(encoded(CHIRP), 40, "<I", 10**9), "its header promises 1,000,000,000 bytes, it holds 8000"),
        (changed(encoded(CHIRP), 24, "<I", 7), "7 samples a second"),
        (changed(encoded(CHIRP), 22, "<H", 0), "not a readable recording"),
        (encoded(CHIRP, "FLAC")[:2000], "not a readable recording"),
        (encoded(np.where(CHIRP > 0.4, np.nan, CHIRP), subtype="FLOAT"), "no finite numbers"),
        ((RATE, np.array(["a"])), r"expected samples \[n\] or \[n, channels\]"),
        ((RATE, np.zeros((2, 2, 2))), "found float64"),
        (3.5, "expected a recording, found float"),
        (CHIRP, "expected a recording, found ndarray"),
        ({"bytes": None, "path": None}, r"no such file"),
    ],
)  # fmt: skip
def test_what_is_no_sound_says_why(value: Any, reason: str) -> None:
    with pytest.raises(BadValueError, match=reason):
        open_audio(value)


def test_a_wav_from_a_pipe_does_not_know_its_length() -> None:
    assert len(open_audio(changed(encoded(CHIRP), 40, "<I", 0xFFFFFFFF))[1]) == len(CHIRP)


def test_a_long_recording_is_refused_before_it_is_decoded_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    silence = encoded(np.zeros(400_000), "FLAC")  # 400,000 samples in a few hundred bytes
    assert len(silence) < 20_000
    monkeypatch.setattr(module, "_BLOCK", 1000)
    small = MediaLimits(samples=5000)
    monkeypatch.setattr(module, "media_limits", ContextVar("small", default=small))
    blocks = []
    read = soundfile.SoundFile.read
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *a, **k: blocks.append(1) or read(*a, **k))
    with pytest.raises(BadValueError, match="too long: more than 5,000 samples"):
        open_audio(silence)
    assert len(blocks) == 6


def test_only_readable_recordings_are_learnt_from() -> None:
    sides = fitted([b"no", (44_100, CHIRP), (44_100, CHIRP)])
    assert (
        sides.sampling_rate == 16_000
        and fitted([(RATE, CHIRP)]).sampling_rate == RATE
        and fitted([(RATE, CHIRP)], rate=4000).sampling_rate == 4000
    )
    with pytest.raises(DataError, match="at least one readable recording"):
        fitted([b"no", b"neither"])


def test_other_rates_are_the_same_sound() -> None:
    for rate in (11_025, 16_000, 44_100, 44_101):
        n = int(0.5 * rate)
        tone = np.sin(2 * np.pi * 500 * np.arange(n) / rate).astype(np.float32)
        there = resampled(tone, rate, RATE)
        expected = np.sin(2 * np.pi * 500 * np.arange(len(there)) / RATE)
        assert abs(len(there) - 4000) <= 2 and np.abs(there - expected)[100:-100].max() < 0.05


def test_written_wav_files_are_read_by_others() -> None:
    samples, rate = soundfile.read(io.BytesIO(wav(CHIRP, RATE)))
    assert rate == RATE and np.abs(samples - CHIRP).max() < 1e-4
    loud, _ = soundfile.read(io.BytesIO(wav(4 * CHIRP, RATE)))
    assert np.abs(loud - CHIRP / np.abs(CHIRP).max()).max() < 1e-3, "quieter as a whole, not cut off"


def test_shown_as_a_player_and_a_picture() -> None:
    visible = Audio().show((RATE, CHIRP))
    assert visible.keys() == {"wav", "png"} and base64.b64decode(visible["png"]).startswith(b"\x89PNG")
    assert len(open_audio(base64.b64decode(visible["wav"]))[1]) == len(CHIRP)
    assert "not a readable" in Audio().show(b"no")["text"]


@pytest.mark.parametrize("rate", [8000, 16_000])
def test_every_recording_is_brought_to_one_loudness(rate: int) -> None:
    tone = np.sin(2 * np.pi * 500 * np.arange(rate) / rate).astype(np.float32)
    for quiet in (1.0, 0.003):
        for silence in (0, rate // 3):  # what lies between words does not count
            even = same_loudness(np.concatenate([quiet * tone, np.zeros(silence, np.float32)]), rate)
            assert np.sqrt((even[:rate] ** 2).mean()) == pytest.approx(0.1, rel=0.02)
    sides, as_is = fitted([(RATE, CHIRP)]), fitted([(RATE, CHIRP)], even=False)
    for one, same in ((sides, True), (as_is, False)):
        loud, faint = (one.log_mel((RATE, factor * CHIRP)) for factor in (1, 0.05))
        assert np.allclose(loud, faint, atol=0.02) == same
    assert len(same_loudness(CHIRP[:85], rate)) == 85


# -- spectra -------------------------------------------------------------------------------------------------
def test_log_mel_agrees_with_scipys_short_time_transform() -> None:
    mel = LogMel(RATE, 32)
    result = mel(CHIRP)
    assert result.shape == (50, 32) and mel.hop == 80 and mel.size == 256
    padded = np.pad(CHIRP, (128, 128))
    window = signal.get_window("hann", 256)
    frames = np.stack([padded[80 * i : 80 * i + 256] * window for i in range(50)])
    power = (np.abs(np.fft.rfft(frames)) * 2 / window.sum()) ** 2
    _, _, other = signal.stft(CHIRP, RATE, "hann", 256, 176, boundary="zeros", padded=False, scaling="spectrum")
    np.testing.assert_allclose((np.abs(other.T[:45]) * 2) ** 2, power[:45], atol=1e-6)
    expected = np.log(power @ mel.filters.T + 1e-8)
    np.testing.assert_allclose(result, expected, atol=2e-3)


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050])
def test_log_mel_and_its_inverse_agree_with_torchs_transforms(rate: int) -> None:
    """22,050: windows of a length that no hop divides."""
    mel = LogMel(rate, 40)
    samples = signal.chirp(np.arange(rate) / rate, 200, 1, 3000).astype(np.float32) * 0.3
    window = torch.hann_window(mel.size)
    spectrum = torch.stft(
        torch.from_numpy(samples), mel.size, mel.hop, window=window, pad_mode="constant", return_complex=True
    )
    power = spectrum.abs().square()[:, : len(samples) // mel.hop] / window.sum() ** 2 * 4
    expected = (torch.from_numpy(mel.filters) @ power + 1e-8).log().T
    np.testing.assert_allclose(mel(samples)[: expected.shape[0]], expected, atol=1e-4)
    frames = spectrum.shape[1] - 1
    back = torch.istft(spectrum, mel.size, mel.hop, window=window, length=frames * mel.hop)
    np.testing.assert_allclose(mel._signal(spectrum.numpy().T, frames), back, atol=1e-5)


def test_a_tone_is_loudest_in_its_own_band() -> None:
    mel = LogMel(16_000, 64)
    np.testing.assert_allclose(mel.filters.sum(1), 1, rtol=1e-5)
    for hz in (200, 1000, 3333, 7000):
        tone = np.sin(2 * np.pi * hz * np.arange(8000) / 16_000).astype(np.float32)
        best = mel(tone)[20].argmax()
        assert best == np.abs(mel.centres - hz).argmin()
    assert (mel(np.zeros(1600, np.float32)) == mel(np.zeros(1600, np.float32)).min()).all()


def test_spectra_become_sound_again() -> None:
    mel = LogMel(RATE, 64)
    spoken = CHIRP + 0.3 * signal.chirp(np.arange(4000) / RATE, 900, 0.5, 400).astype(np.float32)
    truth = mel(spoken, 4)
    again = mel.invert(truth)
    assert len(again) == 52 * 80 and np.array_equal(again, mel.invert(truth))
    error = np.abs(mel(again, 4) - truth)[2:48] * 10 / np.log(10)  # decibels
    assert np.median(error) < 1.5
    assert np.median(np.abs(mel(DICE.normal(size=4160).astype(np.float32) * 0.1) - truth)[2:48]) * 4.34 > 8, "others"


# -- patches and roles -----------------------------------------------------------------------------------------
MELODIES = [worlds.sound(i, 0.2 + 0.1 * (i % 4)) for i in range(12)]


def test_patches_hold_the_whole_sound_in_order() -> None:
    sides = fitted(MELODIES, step=4)
    content = worlds.content_of(sides, MELODIES)
    assert content.lens.tolist() == [5, 8, 10, 13] * 3
    exact = (sides.spectra(same_loudness(MELODIES[0][1], RATE), 4) - sides.mean) / sides.scale
    first = content.gather()["mel"][:5].astype(np.float32).reshape(-1, 16)
    np.testing.assert_allclose(first, exact, atol=2e-3)
    given = sides.segment(content, Role.GIVEN, worlds.keys(12))
    assert np.array_equal(given.content["mel"], content.gather()["mel"].astype(np.float32))
    assert given.order is None and (given.content["level"] == 1).all() and (given.content["count"] == 0).all()


def test_what_is_asked_begins_with_its_length() -> None:
    sides = fitted(MELODIES)
    content = worlds.content_of(sides, MELODIES)
    segment = sides.segment(content, Role.ASKED, worlds.keys(12), True)
    assert np.array_equal(segment.lens, content.lens + 1)
    slot = local_positions(segment.lens) == 0
    assert np.array_equal(segment.order, (~slot).astype(int)), "the slot sees no patch, the patches see the slot"
    assert np.array_equal(segment.content["position"] == -1, slot) and len(segment.reads) == len(slot)
    assert not segment.content["mel"][slot].any()
    assert np.round(segment.targets["length"][slot] * sides.longest).astype(int).tolist() == content.lens.tolist()
    exact = content.gather()["mel"].astype(np.float32)
    assert np.array_equal(segment.targets["patch"][~slot], exact), "speech is not augmented"
    level = segment.content["level"][~slot][:, None]
    noise = (segment.content["mel"][~slot] - level * exact) / (1 - level)
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
    assert len(np.unique(level)) == 12, "one level a recording"


def test_masked_patches_are_runs_of_noise() -> None:
    values = MELODIES * 20
    sides = fitted(values, mask_rate=0.4, span=3, **PLAIN)
    content = worlds.content_of(sides, values)
    segment = sides.segment(content, Role.MASKED, worlds.keys(240))
    level, exact = segment.content["level"], content.gather()["mel"].astype(np.float32)
    assert set(np.unique(level)) == {0, 1} and 0.35 < (level == 0).mean() < 0.6, "a run in every one, however short"
    assert np.array_equal(segment.reads, np.flatnonzero(level == 0))
    assert np.array_equal(segment.targets["patch"], exact[segment.reads])
    assert np.array_equal(segment.content["mel"][level == 1], exact[level == 1])
    noise = segment.content["mel"][level == 0]
    assert abs(noise.mean()) < 0.05 and abs(noise.std() - 1) < 0.05
    for hidden in np.split(level == 0, np.cumsum(segment.lens)[:-1]):
        runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], hidden, [0]]))))[::2]
        assert len(runs) and (runs[:-1] >= min(3, len(hidden))).all(), "only the last may be cut by the end"


def test_windows_of_long_recordings_cover_every_patch_once() -> None:
    sides = fitted(MELODIES, length=4)
    content = worlds.content_of(sides, MELODIES)
    windows, whose = sides.successive_windows(content)
    assert windows.lens.max() == 4 and np.array_equal(np.bincount(whose, windows.lens), content.lens)
    assert np.array_equal(windows.gather()["mel"], content.gather()["mel"])
    assert sides.windows(content).tolist() == (-(-content.lens // 4)).tolist()
    assert sides.dropped(content) == {"recordings longer than 0.16 s, heard up to there": 12}
    assert sides.segment(content, Role.GIVEN, worlds.keys(12)).lens.max() == 4
    starts = {sides.segment(content, Role.MASKED, worlds.keys(12, k), True).lens.max() for k in range(3)}
    assert starts == {4}


# -- augmentation --------------------------------------------------------------------------------------------
def augmented(values: list[Any], seed: int = 0, **options: Any) -> tuple[Any, list[np.ndarray]]:
    """A sides, and the frames of each value, augmented in its own way."""
    sides = fitted(values, **{**PLAIN, "bands": 64, **options})
    segment = sides.segment(worlds.content_of(sides, values), Role.GIVEN, worlds.keys(len(values), seed), True)
    return sides, [x.reshape(-1, 64) for x in np.split(segment.content["mel"], np.cumsum(segment.lens)[:-1])]


def test_all_set_to_nothing_augmentation_is_the_identity() -> None:
    sides, frames = augmented(MELODIES)
    exact = worlds.content_of(sides, MELODIES).gather()["mel"].astype(np.float32).reshape(-1, 64)
    np.testing.assert_allclose(np.concatenate(frames), exact, atol=1e-4)


def test_speed_changes_the_length_and_pitch_the_bands() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / RATE).astype(np.float32)
    values = [(RATE, tone)] * 60
    _, frames = augmented(values, speed=0.2)
    lengths = np.array([len(f) for f in frames]) / 100
    assert lengths.min() < 0.88 and lengths.max() > 1.12 and (np.abs(lengths - 1) <= 0.21).all()
    assert all(abs(np.median(f.argmax(1)) - np.median(frames[0].argmax(1))) == 0 for f in frames)
    sides, frames = augmented(values, pitch=0.2)
    hz = sides.spectra.centres[[int(np.median(f.argmax(1))) for f in frames]]
    assert hz.min() < 880 and hz.max() > 1120 and (np.abs(hz - 1000) <= 250).all()
    assert {len(f) for f in frames} == {100}


def test_gain_noise_and_masks_do_what_they_say() -> None:
    values = [(RATE, DICE.normal(size=8000).astype(np.float32) * np.float32(0.1))] * 60
    sides, frames = augmented(values, gain=6)
    exact = sides.encode(values[0])["mel"].astype(np.float32).reshape(-1, 64)
    across = np.linspace(-1, 1, 64)
    shapes = np.stack([np.ones(64), across, 2 * across**2 - 1], axis=1)
    collected = []
    for f in frames:
        change = (f - exact) * sides.scale * 10 / np.log(10)
        assert np.abs(change - change[0]).max() < 0.05, "all frames alike"
        decibels, *_ = np.linalg.lstsq(shapes, change[0])
        assert np.abs(shapes @ decibels - change[0]).max() < 0.05
        collected.append(decibels)
    assert np.abs(collected).max() <= 6.05 and (np.ptp(collected, axis=0) > 9).all(), "loudness, slope and curve"
    quiet = np.where(np.arange(8000) < 4000, values[0][1], 1e-4).astype(np.float32)
    sides, frames = augmented([(RATE, quiet)] * 60, noise=0.5)
    exact = sides.encode((RATE, quiet))["mel"].astype(np.float32).reshape(-1, 64)
    louder = np.array([(f - exact)[60:].mean() for f in frames]) * sides.scale * 10 / np.log(10)
    assert 0.3 < (louder > 3).mean() < 0.7, "noise fills the silence of about half of them"
    assert all(np.abs((f - exact)[5:45]).mean() * sides.scale < 0.5 for f in frames), "and leaves what is loud"
    _, frames = augmented(values, mask=0.2)
    blank = np.array([[(f == 0).all(1).mean(), (f == 0).all(0).mean()] for f in frames])
    assert blank.max(0)[0] <= 0.2 and blank.max(0)[1] <= 0.4 and (blank.max(0) > 0.1).all()


# -- hearing and speaking ------------------------------------------------------------------------------------
@torch.inference_mode()
@pytest.mark.parametrize(("bands", "step"), [(16, 4), (9, 1), (10, 3)])
def test_a_recording_does_not_hear_its_neighbour_nor_padding(bands: int, step: int) -> None:
    sides = fitted(MELODIES, 8, bands=bands, step=step).eval()
    content = worlds.content_of(sides, MELODIES)
    whole = sides.segment(content, Role.GIVEN, worlds.keys(12)).content
    together = sides.embed(worlds.tensors(whole)).split(content.lens.tolist())
    alone = sides.embed({k: v[: content.lens[0]] for k, v in worlds.tensors(whole).items()})
    torch.testing.assert_close(alone, together[0], rtol=1e-5, atol=1e-5)
    padded = {
        k: torch.nn.functional.pad(v[: content.lens[0]], (*[0, 0] * (v.ndim - 1), 0, 7))
        for k, v in worlds.tensors(whole).items()
    }
    padded["position"][-7:] = -2
    torch.testing.assert_close(sides.embed(padded)[:-7], together[0], rtol=1e-5, atol=1e-5)
    later = {k: v.clone() for k, v in worlds.tensors(whole).items()}
    later["mel"][1] += 1
    moved = (sides.embed(later).split(content.lens.tolist())[0] - together[0]).abs().sum(1)
    assert moved[0] > 1e-4 and moved[1] > 1e-4, "but it hears across the borders of its own patches"


class Known(torch.nn.Module):
    def __init__(self, parts: torch.Tensor) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.parts.expand(len(h), *self.parts.shape) if h.ndim == 3 else h


@torch.inference_mode()
@pytest.mark.parametrize("steps", [1, 5])
def test_a_denoiser_that_knows_the_sound_speaks_it(steps: int) -> None:
    sides = fitted(MELODIES, 8, bands=48).eval()
    truth = MELODIES[3]
    right = torch.from_numpy(sides.encode(truth)["mel"].astype(np.float32))
    sampling = Sampling(steps=steps)
    state = sides.start(worlds.context(worlds.keys(2), sampling))
    query = sides.query(state)
    assert (query.t, query.keep, query.pos) == (1, True, 0) and (query.content["position"] == -1).all()
    state = sides.step(state, torch.zeros(2, 1, 8), None)
    state["length"] = torch.full((2,), len(right))
    state["patches"] = state["patches"][:, :1].expand(-1, len(right), -1)
    sides.module.head = Known(right)
    taken = 0
    while not bool(state["done"].all()):
        query = sides.query(state)
        assert (query.t, query.keep, query.pos) == (len(right), False, 1) and bool(query.valid.all())
        assert float(query.content["level"][0]) == pytest.approx(taken / steps)
        state, taken = sides.step(state, torch.zeros(2, len(right), 8), None), taken + 1
    assert taken == steps
    for answer in sides.finish(state):
        assert open_audio(answer.value)[0] == RATE
        metrics = sides.measure([answer], [truth])
        assert metrics["mel_cepstral_distortion"] < 4 and metrics["length_error"] == 0


@torch.inference_mode()
def test_lengths_are_drawn_from_what_was_learnt_and_kept_within_bounds() -> None:
    sides = fitted(MELODIES * 10, 8).eval()
    sides.length_head.weight.data.zero_()
    sides.length_head.bias.data.copy_(torch.tensor(sides.lengths.mass).log())
    n = 2000
    for sampling in (Sampling(temperature=1.0), Sampling(temperature=1.0, max_length=6), Sampling()):
        state = sides.start(worlds.context(worlds.keys(n), sampling))
        length = sides.step(state, torch.zeros(n, 1, 8), None)["length"].numpy()
        assert length.min() >= 1 and length.max() <= sampling.max_length
        if sampling.temperature == 0:
            assert len(set(length)) == 1
        elif sampling.max_length > 6:
            true = worlds.content_of(sides, MELODIES).lens
            assert abs(length.mean() - true.mean()) < 0.5 and set(np.unique(true)) <= set(length)


def test_a_missing_recording_is_silence_to_the_baselines() -> None:
    sides = fitted(MELODIES)
    x = sides.features().transform([MELODIES[0], None, b"broken"])
    assert x.shape == (3, 1 + (12 + 2) * 16) and x[0].any() and not x[1:].any() and x[0, 0] == pytest.approx(0.2)
    assert sides.per_row([Answer(MELODIES[0])], [MELODIES[0]])[0] == pytest.approx(0, abs=1e-3)
