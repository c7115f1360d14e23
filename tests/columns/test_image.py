"""Image: whatever opens becomes pixels, whatever does not is refused; patches, noise levels, augmentation, drawing."""

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
from PIL import ImageFile

from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.content import Role
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.media import image as media
from onetrunk.media.image import open_image, sheet
from onetrunk.media.limits import MediaLimits

Image = partial(worlds.Sides, "image")

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)


def fitted(values: list[Any], width: int | None = None, **options: Any) -> Any:
    sides = Image(options)
    sides.fit(values)
    if width:
        sides.build(width)
        worlds.wake(sides)
    return sides


def encoded(array: np.ndarray, kind: str = "PNG") -> bytes:
    place = io.BytesIO()
    Pillow.fromarray(array).save(place, kind)
    return place.getvalue()


# -- reading -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("array", [GREY, COLOUR], ids=["grey", "colour"])
def test_every_way_to_hold_a_picture_is_one_picture(array: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(array))
    ways = [
        array, array / 255.0, Pillow.fromarray(array), encoded(array), encoded(array, "TIFF"), path, str(path),
        {"bytes": encoded(array), "path": None}, {"bytes": None, "path": str(path)},
    ]  # fmt: skip
    for way in ways:
        assert np.array_equal(np.asarray(open_image(way)), array)
        assert Image().fingerprint(way) == Image().fingerprint(array)


def test_odd_pictures_become_eight_bits_on_white() -> None:
    clear = np.dstack([COLOUR, np.zeros((6, 8), dtype=np.uint8)])
    assert (np.asarray(open_image(Pillow.fromarray(clear))) == 255).all()
    deep = Pillow.fromarray(GREY.astype(np.uint16) * 257)
    assert np.abs(np.asarray(open_image(deep)).astype(int) - GREY).max() <= 1
    black_and_white = Pillow.fromarray(GREY > 100)
    assert open_image(black_and_white).mode == "L"
    assert np.array_equal(np.asarray(open_image(GREY[..., None])), GREY)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_photograph_taken_sideways_stands_upright(kind: str) -> None:
    """Orientation 6: the camera was held a quarter turn to the right."""
    place, exif = io.BytesIO(), Pillow.Exif()
    exif[0x0112] = 6
    Pillow.fromarray(np.kron(COLOUR, np.ones((8, 8, 1), np.uint8))).rotate(90, expand=True).save(place, kind, exif=exif)
    opened = open_image(place.getvalue())
    assert opened.size == (64, 48)
    assert np.abs(np.asarray(opened.resize((8, 6), Pillow.Resampling.BOX)).astype(int) - COLOUR).max() < 40


def saved(image: Any, kind: str, **options: Any) -> bytes:
    place = io.BytesIO()
    image.save(place, kind, **options)
    return place.getvalue()


def test_files_of_every_kind_of_colour_are_read() -> None:
    colour, big = Pillow.fromarray(COLOUR), Pillow.fromarray(np.kron(COLOUR, np.ones((8, 8, 1), np.uint8)))
    palette = colour.quantize(48)
    assert np.abs(np.asarray(open_image(saved(palette, "PNG"))).astype(int) - COLOUR).max() < 16
    clear = np.asarray(open_image(saved(palette, "PNG", transparency=bytes([0] * 48))))
    assert clear.shape == (6, 8, 3) and (clear == 255).all(), "what is transparent is white"
    inks = np.asarray(open_image(saved(big.convert("CMYK"), "JPEG", quality=95)).resize((8, 6))).astype(int)
    assert np.abs(inks - COLOUR).max() < 60
    moving = saved(colour, "GIF", save_all=True, append_images=[Pillow.fromarray(255 - COLOUR)])
    assert np.abs(np.asarray(open_image(moving)).astype(int) - COLOUR).max() < 16, "the first picture of several"
    fractions = Pillow.fromarray((GREY / 255).astype(np.float32))
    assert np.array_equal(np.asarray(open_image(saved(fractions, "TIFF"))), GREY)
    deep = open_image(saved(Pillow.fromarray(GREY.astype(np.uint16) * 257), "PNG"))
    assert np.array_equal(np.asarray(deep), GREY)


def test_one_pixel_is_a_picture() -> None:
    sides = fitted([np.array([[7]], np.uint8), GREY], size=8)
    assert (sides.encode(np.array([[7]], np.uint8))["pixels"] == 7).all()
    assert fitted([np.array([[7]], np.uint8)]).size == 2


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (saved(Pillow.fromarray(np.kron(COLOUR, np.ones((8, 8, 1), np.uint8))), "JPEG")[:-200], "not a readable image"),
        (b"not a picture", "the bytes is not a readable image"),
        (encoded(COLOUR)[:60], "not a readable image"),
        ("nowhere.png", "no such file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "not a readable image"),
        (12, "expected an image, found int"),
        (np.zeros((2, 2, 5), dtype=np.uint8), r"found shape \[2, 2, 5\]"),
        (np.zeros((0, 4), dtype=np.uint8), "found shape"),
        (np.full((4, 4), 7.0), "floats from 0 to 1; found float64"),
        (np.full((4, 4), np.nan), "floats from 0 to 1"),
        ({"path": "nowhere.png", "bytes": None}, "no such file"),
    ],
)
def test_what_cannot_be_read_says_why(value: Any, reason: str) -> None:
    with pytest.raises(BadValueError, match=reason):
        open_image(value)


def test_too_many_pixels_are_refused_by_the_header_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = encoded(GREY)
    small = MediaLimits(pixels=40)
    monkeypatch.setattr(media, "media_limits", ContextVar("small", default=small))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(BadValueError, match="8 × 6 pixels; at most 40"):
        open_image(picture)


# -- knowledge -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("pictures", "options", "size", "patch", "channels"),
    [
        ([np.zeros((8, 8), np.uint8)], {}, 8, 2, 1),
        ([np.zeros((28, 20), np.uint8)], {}, 32, 8, 1),
        ([np.zeros((300, 500), np.uint8)], {}, 64, 16, 1),
        ([np.zeros((1, 1), np.uint8)], {}, 2, 2, 1),
        ([np.zeros((48, 48), np.uint8)], {}, 48, 8, 1),
        ([COLOUR, GREY], {}, 8, 2, 3),
        ([np.zeros((8, 8), np.uint8)], {"size": 16, "patch": 4}, 16, 4, 1),
        ([np.dstack([GREY] * 3)], {}, 8, 2, 1),
    ],
)
def test_size_patch_and_channels_follow_the_training_pictures(
    pictures: list[Any], options: dict[str, int], size: int, patch: int, channels: int
) -> None:
    sides = fitted(pictures, **options)
    assert (sides.size, sides.patch, sides.channels, sides.grid.count) == (size, patch, channels, (size // patch) ** 2)


def test_only_readable_pictures_are_learnt_from() -> None:
    assert fitted([b"no", GREY]).size == 8
    with pytest.raises(DataError, match="at least one readable image"):
        fitted([b"no", b"neither"])


def test_nearly_equal_pictures_are_near_and_others_are_not() -> None:
    big = np.kron(worlds.CASES["image"].values[3], np.ones((8, 8), dtype=np.uint8))
    assert (
        Image().near_duplicate_key(big)
        == Image().near_duplicate_key(encoded(big, "JPEG"))
        == Image().near_duplicate_key(np.clip(big, 2, 250))
    )
    assert Image().near_duplicate_key(big) != Image().near_duplicate_key(big.T) and Image().fingerprint(
        big
    ) != Image().fingerprint(np.clip(big, 2, 250))


def test_shown_as_a_picture() -> None:
    picture = Pillow.open(io.BytesIO(base64.b64decode(Image().show(GREY)["png"])))
    assert picture.width >= 96 and "not a readable" in Image().show(b"no")["text"]


# -- roles ---------------------------------------------------------------------------------------------------
def test_patches_are_cut_row_by_row_and_put_back() -> None:
    sides = fitted([COLOUR], 8, patch=2, size=8)
    x = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)
    patches = sides.grid.cut(x)
    first = x[0, :, 0:2, 2:4].transpose(1, 2, 0).reshape(-1)  # the second patch of the first row
    assert patches.shape == (3, 16, 12) and np.array_equal(patches[0, 1], first)
    assert np.array_equal(sides.grid.join(patches), x)
    assert np.array_equal(sides.pixels(torch.from_numpy(patches)).numpy(), x)


def test_what_is_given_is_the_picture_and_masked_patches_are_noise() -> None:
    sides = fitted(worlds.CASES["image"].values, mask_rate=0.5, patch=2)
    content = worlds.content_of(sides, worlds.CASES["image"].values * 10)
    exact = content.gather()["pixels"].astype(np.float32) / 127.5 - 1
    given = sides.segment(content, Role.GIVEN, worlds.keys(120))
    assert np.array_equal(given.content["pixels"], exact) and (given.content["level"] == 1).all()
    masked = sides.segment(content, Role.MASKED, worlds.keys(120))
    level = masked.content["level"].reshape(-1)
    assert set(np.unique(level)) == {0.0, 1.0} and abs((level == 0).mean() - 0.5) < 0.04
    assert np.array_equal(masked.reads, np.flatnonzero(level == 0))
    visible, whole = (sides.grid.cut(x).reshape(-1, 4) for x in (masked.content["pixels"], exact))
    assert np.array_equal(visible[level == 1], whole[level == 1])
    assert np.array_equal(masked.targets["patch"], whole[masked.reads])
    noise = visible[level == 0]
    assert abs(noise.mean()) < 0.05 and abs(noise.std() - 1) < 0.05


def test_what_is_asked_is_noisy_by_its_level_and_weighed_by_it() -> None:
    sides = fitted(worlds.CASES["image"].values, patch=2)
    content = worlds.content_of(sides, worlds.CASES["image"].values)
    exact = content.gather()["pixels"].astype(np.float32) / 127.5 - 1
    segment = sides.segment(content, Role.ASKED, worlds.keys(12), True)
    level = segment.content["level"]
    assert (level == level[:, :1]).all() and len(np.unique(level[:, 0])) == 12, "one level a picture"
    t = level[:, 0, None, None, None]
    noise = (segment.content["pixels"] - t * exact) / (1 - t)
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
    assert np.array_equal(segment.targets["patch"], sides.grid.cut(exact).reshape(-1, 4)), "drawings are not augmented"
    expected = 1 / np.maximum(1 - level.reshape(-1), 0.2) ** 2
    assert segment.targets["velocity"] == pytest.approx(expected, rel=1e-5)


def test_the_frame_leads_from_what_is_seen_back_to_the_original() -> None:
    """A bright dot of the original is found again where the frame says it is."""
    wide = np.zeros((60, 90), dtype=np.uint8)
    wide[40:44, 20:26] = 255  # centre: x 23, y 42
    sides = Image({"size": 60, "patch": 4, "flip": True})
    sides.fit([wide])
    content = worlds.content_of(sides, [wide] * 6)
    for role, augment in ((Role.GIVEN, False), (Role.GIVEN, True), (Role.MASKED, True)):
        segment = sides.segment(content, role, worlds.keys(6), augment)
        assert segment.facts["frame"].shape == (6, 2, 3)
        if role == Role.GIVEN:
            for picture, frame in zip(segment.content["pixels"][:, 0], segment.facts["frame"], strict=True):
                light = np.clip(picture - np.median(picture), 0.2, None) - 0.2
                y, x = np.mgrid[:60, :60] * 2 / 60 + 1 / 60 - 1
                seen = [(light * x).sum() / light.sum(), (light * y).sum() / light.sum(), 1]
                np.testing.assert_allclose(frame @ seen, [23, 42], atol=1.0)


def test_erasing_greys_one_square_of_each() -> None:
    white = [np.full((20, 20), 255, np.uint8)]
    sides = fitted(white, size=20, patch=4, rotate=0, scale=0, shift=0, light=0, erase=0.3)
    content = worlds.content_of(sides, white * 200)
    seen = sides.segment(content, Role.GIVEN, worlds.keys(200), True).content["pixels"][:, 0]
    assert set(np.unique(seen.round(3))) == {0.0, 1.0}
    rows, columns = (seen == 0).any(2), (seen == 0).any(1)
    assert np.array_equal(seen == 0, rows[:, :, None] & columns[:, None, :])
    assert rows.sum(1).max() == columns.sum(1).max() == 6 and len({s.tobytes() for s in seen}) > 100
    assert (sides.segment(content, Role.ASKED, worlds.keys(200), True).targets["patch"] == 1).all()


def test_augmentation_moves_pictures_a_little_each_its_own_way() -> None:
    values = [worlds.CASES["image"].values[0]] * 50
    sides, still = fitted(values), fitted(values, rotate=0, scale=0, shift=0, light=0)
    content = worlds.content_of(sides, values)
    plain = sides.segment(content, Role.GIVEN, worlds.keys(50)).content["pixels"]
    moved = sides.segment(content, Role.GIVEN, worlds.keys(50), True).content["pixels"]
    assert len({m.tobytes() for m in moved}) == 50
    assert moved.min() >= -1 and moved.max() <= 1 and 0.02 < np.abs(moved - plain).mean() < 0.6
    unmoved = still.segment(content, Role.GIVEN, worlds.keys(50), True).content["pixels"]
    assert np.abs(unmoved - plain).max() < 1e-4, "all set to nothing, it is the identity"
    flipped = fitted(values, rotate=0, scale=0, shift=0, light=0, flip=True)
    pixels = flipped.segment(content, Role.GIVEN, worlds.keys(50), True).content["pixels"]
    mirrored = [np.abs(p - plain[0][:, :, ::-1]).max() < 1e-4 for p in pixels]
    same = [np.abs(p - plain[0]).max() < 1e-4 for p in pixels]
    assert all(a != b for a, b in zip(mirrored, same, strict=True)) and 0.3 < np.mean(mirrored) < 0.7


@pytest.mark.parametrize(("stem", "depth"), [(0, 1), (4, 1), (4, 2), (None, 1)])
@pytest.mark.parametrize(("patch", "size"), [(2, 8), (3, 9), (4, 8), (8, 16), (12, 24)])
def test_every_stem_makes_one_position_a_patch(stem: int | None, depth: int, patch: int, size: int) -> None:
    sides = fitted([COLOUR], 8, stem=stem, depth=depth, patch=patch, size=size)
    content = worlds.content_of(sides, [COLOUR, GREY])
    x = sides.embed(worlds.tensors(sides.segment(content, Role.GIVEN, worlds.keys(2)).content))
    assert x.shape == (2 * sides.grid.count, 8)


# -- drawing -------------------------------------------------------------------------------------------------
class Known(torch.nn.Module):
    def __init__(self, patches: torch.Tensor) -> None:
        super().__init__()
        self.patches = patches

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.patches.expand(len(h), -1, -1)


@torch.inference_mode()
@pytest.mark.parametrize("array", [GREY, COLOUR], ids=["grey", "colour"])
def test_a_denoiser_that_knows_the_picture_draws_it(array: np.ndarray) -> None:
    sides = fitted([array], 8, patch=2, size=8).eval()
    content = worlds.content_of(sides, [array])
    right = torch.from_numpy(sides.grid.cut(content.gather()["pixels"].astype(np.float32) / 127.5 - 1))
    sides.module.head = Known(right)
    for steps in (1, 5):
        sampling = Sampling(steps=steps)
        state = sides.start(worlds.context(worlds.keys(2), sampling))
        taken = 0
        while not bool(state["done"].all()):
            query = sides.query(state)
            assert float(query.content["level"][0, 0]) == pytest.approx(taken / steps)
            state, taken = sides.step(state, torch.zeros(2, sides.grid.count, 8), None), taken + 1
        assert taken == steps
        for answer in sides.finish(state):
            truth = sides.encode(array)["pixels"].transpose(1, 2, 0).squeeze()
            assert np.abs(answer.value.astype(int) - truth).max() <= 1 and answer.value.dtype == np.uint8


@torch.inference_mode()
def test_guidance_goes_past_what_is_led_away_from_what_is_not() -> None:
    sides = fitted([GREY], 8, patch=2, size=8).eval()
    led, free = torch.randn(3, sides.grid.count, 8), torch.randn(3, sides.grid.count, 8)
    state = sides.start(worlds.context(worlds.keys(3), Sampling(steps=1, guidance=3.0)))
    drawn = sides.step(state, led, free)["patches"]
    a, b = sides.head(led), sides.head(free)
    torch.testing.assert_close(drawn, b + 3 * (a - b))


def test_errors_are_of_pixels_from_0_to_1() -> None:
    sides = fitted([GREY], size=8, patch=2)
    black, white = np.zeros((8, 8), np.uint8), np.full((8, 8), 255, np.uint8)
    metrics = sides.measure([Answer(black), Answer(white)], [white, white])
    assert metrics == {"energy_score": pytest.approx(0.5)}
    assert sides.per_row([Answer(black), Answer(white)], [white, white]).tolist() == [1, 0]


# -- evidence ------------------------------------------------------------------------------------------------
def test_a_copy_is_nearer_to_what_was_trained_on_than_a_true_one() -> None:
    dice = np.random.default_rng(0)
    known, truths = (list(dice.integers(0, 256, (n, 16, 16), dtype=np.uint8)) for n in (30, 7))
    sides = fitted(known)
    copies = sides.novelty([Answer(x) for x in known[:7]], truths, known)
    assert copies["nearest_known"] == 0
    away = [min(np.sqrt(((t / 255 - k / 255) ** 2).mean()) for k in known) for t in truths]
    assert copies["nearest_known_of_true"] == pytest.approx(np.median(away))


@pytest.mark.parametrize("array", [GREY, COLOUR], ids=["grey", "colour"])
def test_pictures_lie_on_a_sheet_in_rows(array: np.ndarray) -> None:
    result = sheet([[array, array // 2], [array]])
    assert result.shape[:2] == (2 * 7 + 1, 2 * 9 + 1) and result.dtype == np.uint8
    assert np.array_equal(result[1:7, 1:9], array) and np.array_equal(result[1:7, 10:18], array // 2)
    assert np.array_equal(result[8:14, 1:9], array) and (result[8:14, 10:18] == 255).all() and (result[0] == 255).all()


def test_the_figure_shows_answers_above_what_is_true() -> None:
    from matplotlib.figure import Figure

    sides, axes = fitted([GREY], size=8, patch=2), Figure().add_subplot()
    black, white = np.zeros((8, 8), np.uint8), np.full((8, 8), 255, np.uint8)
    assert sides.figure([Answer(black)] * 12, [white] * 12, axes)
    picture = axes.images[0].get_array()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["answered", "true"] * 2
    assert [int(picture[y, 4]) for y in (4, 13, 22, 31)] == [0, 255, 0, 255]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_the_bytes_of_a_file_are_recognised(kind: str) -> None:
    """Also WebP, which begins as a WAV file does."""
    content = encoded(GREY, kind)
    assert Image().recognise([content, content]) == 1 and worlds.Sides("audio").recognise([content]) == 0
    assert Image().recognise([content, b"good"]) == 0
