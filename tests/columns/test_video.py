"""Video: films made on the spot become a few small frames, whatever is no film is refused; patches, drawing, sound."""

from __future__ import annotations

import base64
import io
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import worlds
from PIL import Image as Pillow

from onetrunk.core.answer import Sampling
from onetrunk.core.content import Role
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.media import video as module
from onetrunk.media.audio import open_audio
from onetrunk.media.limits import MediaLimits
from onetrunk.media.video import container_of, open_video

av = pytest.importorskip("av")

Audio = partial(worlds.Sides, "audio")
Video = partial(worlds.Sides, "video")


def film(frames: np.ndarray, kind: str = "mp4", sides: str = "mpeg4", sound: np.ndarray | None = None) -> bytes:
    """Frames uint8 [t, H, W, 3] and samples [n] at 16 kHz as a file."""
    place = io.BytesIO()
    with av.open(place, "w", format=kind) as out:
        pictures = out.add_stream(sides, rate=10)
        pictures.height, pictures.width = frames.shape[1:3]
        pictures.pix_fmt = "yuv420p"
        heard = out.add_stream("aac", rate=16_000, layout="mono") if sound is not None else None
        for array in frames:
            out.mux(pictures.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        out.mux(pictures.encode(None))
        if heard is not None:
            samples = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), format="fltp", layout="mono")
            samples.sample_rate, samples.pts = 16_000, 0
            out.mux(heard.encode(samples))
            out.mux(heard.encode(None))
    return place.getvalue()


def shades(n: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Frames of one grey each, from dark to light."""
    greys = np.linspace(20, 235, n).astype(np.uint8)
    return np.broadcast_to(greys[:, None, None, None], (n, height, width, 3)).copy()


TONE = 0.4 * np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000)


# -- reading -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["mp4", "matroska", "avi", "flv"])
def test_every_container_and_every_way_to_hold_it_is_one_film(kind: str, tmp_path: Path) -> None:
    frames = shades(12)
    data = film(frames, kind, "flv1" if kind == "flv" else "mpeg4")
    path = tmp_path / "a.film"
    path.write_bytes(data)
    for way in (data, path, str(path), {"bytes": data, "path": None}, {"bytes": None, "path": str(path)}):
        opened = open_video(way)
        assert opened.dtype == np.uint8 and opened.shape[1:] == (32, 48, 3) and 11 <= len(opened) <= 12
        assert np.abs(opened.mean((1, 2, 3)) - frames.mean((1, 2, 3))[: len(opened)]).max() < 8
        assert Video().fingerprint(way) == Video().fingerprint(data)


def test_moving_pictures_are_films() -> None:
    frames = [Pillow.fromarray(f) for f in shades(5)]
    for kind in ("GIF", "PNG"):
        place = io.BytesIO()
        frames[0].save(place, kind, save_all=True, append_images=frames[1:])
        assert np.abs(open_video(place.getvalue()) - shades(5).astype(int)).max() <= 2


def test_long_films_are_thinned_evenly_and_large_ones_made_smaller() -> None:
    opened = open_video(film(shades(150))).mean((1, 2, 3))
    assert 64 <= len(opened) < 128 and opened[0] < 30 and opened[-1] > 225
    assert np.abs(opened - shades(150)[::2].mean((1, 2, 3))).max() < 12, "evenly"
    assert open_video(film(shades(3, 200, 520))).shape[1:3] == (98, 256)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "the bytes is not a film of a known kind"),
        (b"#EXTM3U\nhttp://example.org/a.ts", "not a film of a known kind"),
        ("nowhere.mp4", "nowhere.mp4: no such file"),
        (3, "expected a film, found int"),
        (film(shades(12))[:900], "cannot be decoded to its end"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"expected an array \[frames, H, W, 1 or 3\]"),
        (np.full((2, 8, 8, 1), 7.0), "floats from 0 to 1; found float64"),
        (b"OggS" + b"junk" * 99, "cannot be decoded"),
    ],
)
def test_what_is_no_film_says_why(value: Any, reason: str) -> None:
    with pytest.raises(BadValueError, match=reason):
        open_video(value)


def test_a_broken_frame_refuses_the_film() -> None:
    dice = np.random.default_rng(0)
    data = bytearray(film(dice.integers(0, 255, (20, 48, 64, 3), dtype=np.uint8)))
    data[2000:9000] = dice.integers(0, 255, 7000, dtype=np.uint8).tobytes()
    with pytest.raises(BadValueError, match="cannot be decoded to its end: invalid data"):
        open_video(bytes(data))


def test_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = film(shades(12))
    small = MediaLimits(frames=5)
    monkeypatch.setattr(module, "media_limits", ContextVar("small", default=small))
    with pytest.raises(BadValueError, match="too long: more than 5 frames"):
        open_video(data)
    small = MediaLimits(pixels=1000)
    monkeypatch.setattr(module, "media_limits", ContextVar("small", default=small))
    with pytest.raises(BadValueError, match="48 × 32 pixels a frame; at most 1,000"):
        open_video(data)


def test_only_readable_films_are_learnt_from() -> None:
    coloured = shades(4)
    coloured[..., 0] = 250
    grey, colour = Video({}), Video({})
    grey.fit([b"no", film(shades(4, 64, 64))])
    colour.fit([film(coloured, "matroska", "mpeg4")])
    assert (grey.size, grey.patch, grey.channels) == (48, 12, 1) and colour.channels == 3
    with pytest.raises(DataError, match="at least one readable film"):
        Video({}).fit([b"no"])


# -- sound ---------------------------------------------------------------------------------------------------
def test_the_sound_of_a_film_is_an_audio_column_of_its_own() -> None:
    data = film(shades(10), sound=TONE)
    rate, samples = open_audio(data)
    assert rate == 16_000 and abs(len(samples) - 16_000) < 2000
    spectrum = np.abs(np.fft.rfft(samples[2000:10_000]))
    assert abs(spectrum.argmax() * 16_000 / 8000 - 500) < 10
    sides = Audio({"bands": 16})
    sides.fit([data])
    assert len(sides.encode(data)["mel"]) >= 24 and container_of(data) == "mp4"
    with pytest.raises(BadValueError, match="the bytes has no sound"):
        sides.encode(film(shades(10)))
    assert Video().recognise([Path("a.mp4")]) == 1 and Audio().recognise([Path("a.mp4")]) == 0


def test_film_and_sound_go_together_and_either_may_be_missing() -> None:
    loud, mute = film(shades(6), sound=TONE), film(shades(6)[::-1])
    table = {"film": [loud, mute] * 4, "sound": [loud, mute] * 4, "label": ["a", "b"] * 4}
    made = worlds.model(
        table, {"film": "video", "sound": "audio", "label": "category"},
        options={"film": {"frames": 2, "size": 16}, "sound": {"bands": 16}},
    )  # fmt: skip
    from onetrunk.data.ledger import Ledger

    ledger = Ledger()
    assert len(made.answer(table, "label", ["film", "sound"], ledger=ledger)) == 8
    assert any("has no sound" in line for line in ledger.lines()) and not any("film" in line for line in ledger.lines())


# -- parts and roles -----------------------------------------------------------------------------------------
def fitted(width: int | None = None, **options: Any) -> Any:
    sides = Video({"frames": 4, "patch": 4, "stem": 4, **options})
    sides.fit([worlds.film(i, channels=3) for i in range(4)])
    if width:
        sides.build(width)
        worlds.wake(sides)
    return sides


def test_frames_are_taken_evenly_in_order() -> None:
    sides = fitted(frames=3, size=8)
    pixels = sides.encode(shades(11))["pixels"]
    assert pixels.shape == (3, 3, 8, 8)
    assert pixels.mean((1, 2, 3)).tolist() == [20, pytest.approx(127, abs=1), 235]
    assert len(sides.encode(shades(1))["pixels"]) == 3, "a single frame stands still"


def test_patches_are_cut_over_time_and_space_and_put_back() -> None:
    sides = fitted(8)
    x = torch.randn(2, 4, 3, 8, 8)
    patches = torch.from_numpy(sides.grid.cut(x.numpy()))
    assert patches.shape == (2, 8, 2 * 3 * 16)
    torch.testing.assert_close(patches[1, 5], x[1, 2:4, :, 0:4, 4:8].reshape(-1))
    torch.testing.assert_close(sides.pixels(patches), x)
    assert np.array_equal(sides.grid.join(patches.numpy()), x.numpy())


def test_masked_patches_are_noise_and_what_is_asked_has_one_level() -> None:
    values = [worlds.film(i, channels=3) for i in range(12)] * 5
    sides = fitted(mask_rate=0.5)
    content = worlds.content_of(sides, values)
    exact = content.gather()["pixels"].astype(np.float32) / 127.5 - 1
    given = sides.segment(content, Role.GIVEN, worlds.keys(60))
    assert np.array_equal(given.content["pixels"], exact)
    masked = sides.segment(content, Role.MASKED, worlds.keys(60))
    level = masked.content["level"].reshape(-1)
    assert np.array_equal(masked.reads, np.flatnonzero(level == 0)) and abs((level == 0).mean() - 0.5) < 0.08
    whole = sides.grid.cut(exact).reshape(-1, 96)
    visible = sides.grid.cut(masked.content["pixels"]).reshape(-1, 96)
    np.testing.assert_allclose(visible[level == 1], whole[level == 1])
    assert np.array_equal(masked.targets["patch"], whole[masked.reads])
    assert abs(visible[level == 0].std() - 1) < 0.05
    asked = sides.segment(content, Role.ASKED, worlds.keys(60), True)
    assert (asked.content["level"] == asked.content["level"][:, :1]).all()
    assert np.array_equal(asked.targets["patch"], whole), "drawings are not augmented"


def test_augmentation_moves_all_frames_of_a_film_alike() -> None:
    values = [np.repeat(worlds.film(1, 1, 3), 4, axis=0)] * 40
    sides = fitted()
    content = worlds.content_of(sides, values)
    moved = sides.segment(content, Role.GIVEN, worlds.keys(40), True).content["pixels"]
    assert (moved == moved[:, :1]).all() and len({m.tobytes() for m in moved}) == 40
    still = fitted(scale=0, shift=0, light=0).segment(content, Role.GIVEN, worlds.keys(40), True).content["pixels"]
    assert np.abs(still - (content.gather()["pixels"] / 127.5 - 1)).max() < 1e-4


class Known(torch.nn.Module):
    def __init__(self, patches: torch.Tensor) -> None:
        super().__init__()
        self.patches, self.out_features = patches, patches.shape[-1]

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.patches.expand(len(h), -1, -1)


@torch.inference_mode()
@pytest.mark.parametrize("steps", [1, 4])
def test_a_denoiser_that_knows_the_film_draws_it(steps: int) -> None:
    sides = fitted(8).eval()
    truth = worlds.film(5, 4, 3)
    exact = sides.encode(truth)["pixels"].astype(np.float32)[None] / 127.5 - 1
    sides.module.head = Known(torch.from_numpy(sides.grid.cut(exact)))
    state = sides.start(worlds.context(worlds.keys(2), Sampling(steps=steps)))
    while not bool(state["done"].all()):
        state = sides.step(state, torch.zeros(2, sides.grid.count, 8), None)
    for answer in sides.finish(state):
        assert answer.value.shape == (4, 8, 8, 3) and np.abs(answer.value.astype(int) - truth).max() <= 1
        assert sides.measure([answer], [truth])["energy_score"] < 1e-2


def test_shown_as_a_moving_picture() -> None:
    picture = Pillow.open(io.BytesIO(base64.b64decode(Video().show(film(shades(6)))["png"])))
    assert picture.n_frames == 6 and max(picture.size) >= 96
    assert "not a film" in Video().show(b"no")["text"]
