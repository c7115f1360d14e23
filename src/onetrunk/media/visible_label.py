"""Labels that people see or hear: "AI生成" below a picture, the Morse code of AI before a sound (GB 45438-2025, 5).

The letters are drawn here, because no font that is there everywhere has Chinese ones.
"""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image as Pillow

from onetrunk.media.image import png

_LETTERS = {
    "A": "...#... ...#... ..#.#.. ..#.#.. ..#.#.. .#...#. .#...#. .#####. #.....# #.....# #.....#",
    "I": "### .#. .#. .#. .#. .#. .#. .#. .#. .#. ###",
    "生": "..#..#..... ..#..#..... .#########. .#...#..... #....#..... ..#######.. .....#..... .....#..... .....#....."
    " .....#..... ###########",
    "成": "......#.#.. ......#..#. .########## .#....#.... .#....#.... .####.#..#. .#..#.#..#. .#..#.#.#.. .#.##..#..#"
    " #.....#.#.# #....#...##",
}
_MARGIN = 2  # pixels around a label, before it is enlarged
_SHARE = 0.05  # of a picture's shorter side: the least height of its letters
_MORSE = ".- .."  # short long, short short: AI
_UNIT = 0.1  # seconds that a short sound lasts; a long one lasts three
_TONE = 700.0  # Hz
_LOUDNESS = 0.3  # of full scale


def on_picture(file: bytes) -> bytes:
    """A PNG file, every frame of it with the label below, on black."""
    with Pillow.open(io.BytesIO(file), formats=["PNG"]) as image:
        frames, duration = [], float(image.info.get("duration", 0))
        for i in range(getattr(image, "n_frames", 1)):
            image.seek(i)
            frames.append(_with_strip(np.asarray(image.convert("L" if image.mode == "L" else "RGB"))))
    return png(frames, duration)


def _with_strip(picture: np.ndarray) -> np.ndarray:
    """uint8 [H, W] or [H, W, 3]; wider where the picture is narrower than the label."""
    height, width = picture.shape[:2]
    label = _label()
    larger = max(1, math.ceil(_SHARE * min(height, width) / (len(label) - 2 * _MARGIN)))
    label = label.repeat(larger, axis=0).repeat(larger, axis=1)
    shape = (height + len(label), max(width, label.shape[1]), *picture.shape[2:])
    out = np.zeros(shape, dtype=np.uint8)
    left = (shape[1] - width) // 2
    out[:height, left : left + width] = picture
    out[height:, : label.shape[1]] = label if picture.ndim == 2 else label[..., None]
    return out


def _label() -> np.ndarray:
    """The words in white on black, uint8 [15, 42]."""
    letters = [np.array([[dot == "#" for dot in line] for line in rows.split()]) for rows in _LETTERS.values()]
    joined = [part for letter in letters for part in (letter, np.zeros((len(letter), 2), dtype=bool))]
    return np.pad(np.hstack(joined[:-1]), _MARGIN).astype(np.uint8) * 255


def on_sound(file: bytes, kind: str) -> bytes:
    """A WAV file with the rhythm before it. Sounds of other kinds are made of one, and come back as they are."""
    if kind != "wav":
        return file
    import soundfile

    with soundfile.SoundFile(io.BytesIO(file)) as sound:
        samples, rate, subtype = sound.read(dtype="int16", always_2d=True), sound.samplerate, sound.subtype
    code = np.round(rhythm(rate) * 32767).astype(np.int16)[:, None].repeat(samples.shape[1], axis=1)
    out = io.BytesIO()
    soundfile.write(out, np.concatenate([code, samples]), rate, format="WAV", subtype=subtype)
    return out.getvalue()


def rhythm(rate: int) -> np.ndarray:
    """The code as samples [n] between -1 and 1, with a pause after it."""
    unit = round(_UNIT * rate)
    pattern = {".": [1, 0], "-": [1, 1, 1, 0], " ": [0, 0]}
    on = np.array([tick for sign in _MORSE for tick in pattern[sign]] + [0, 0], dtype=np.float64).repeat(unit)
    tone = min(_TONE, rate / 4)
    return _LOUDNESS * on * np.sin(2 * np.pi * tone * np.arange(len(on)) / rate)
