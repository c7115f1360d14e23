"""What a model has made says so: read back with Pillow, wave, soundfile and PyAV, and with the standards' own words."""

from __future__ import annotations

import io
import json
import struct
import wave
import xml.etree.ElementTree as ElementTree

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from onetrunk.core.errors import UsageError
from onetrunk.media.audio import wav
from onetrunk.media.image import png
from onetrunk.media.marking import TEXT_LABEL, Mark
from onetrunk.media.visible_label import rhythm

ELEMENTS = ["Label", "ContentProducer", "ProduceID", "ReservedCode1", "ContentPropagator", "PropagateID",
            "ReservedCode2"]  # fmt: skip
MARK, SEEN = Mark("maker"), Mark("maker", visible=True)
RATE = 16_000
SOUND = np.sin(np.arange(RATE) / 9).astype(np.float32) / 2
PICTURE = np.random.default_rng(0).integers(0, 256, (28, 30, 3), dtype=np.uint8)


def _opened(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file))


def _label_of(file: bytes) -> dict[str, str]:
    """The label of a PNG file, found by Pillow and an XML parser; and the source type that IPTC calls so."""
    tree = ElementTree.fromstring(_opened(file).info["XML:com.adobe.xmp"])
    source = tree.find(".//{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert source is not None and source.text is not None and source.text.endswith("/trainedAlgorithmicMedia")
    (label,) = tree.iter("{http://www.tc260.org.cn/ns/AIGC/1.0/}AIGC")
    return json.loads(label.text or "")


def _checked(label: dict[str, str], producer: str = "maker") -> str:
    """All seven elements in their order, as whoever makes something writes them first. Returns the identifier."""
    assert list(label) == ELEMENTS
    assert label["Label"] == "1" and label["ReservedCode1"] == label["ReservedCode2"] == ""
    assert label["ContentProducer"] == label["ContentPropagator"] == producer
    assert label["ProduceID"] == label["PropagateID"] and len(label["ProduceID"]) == 32
    return label["ProduceID"]


def test_a_picture_says_so_and_keeps_every_pixel() -> None:
    file = MARK.on_file(png([PICTURE]))
    assert np.array_equal(np.asarray(_opened(file)), PICTURE)
    assert _opened(file).verify() is None, "its checksums are right"
    assert _checked(_label_of(file)) == _checked(_label_of(MARK.on_file(png([PICTURE])))), "equal content"
    assert _checked(_label_of(file)) != _checked(_label_of(MARK.on_file(png([PICTURE[::-1]]))))


def test_names_with_signs_of_xml_come_back() -> None:
    assert _checked(_label_of(Mark("R&D<1>").on_file(png([PICTURE]))), "R&D<1>")


def test_a_film_says_so_and_plays() -> None:
    frames = [PICTURE, PICTURE[::-1], PICTURE[:, ::-1]]
    file = MARK.on_file(png(frames, 125))
    with _opened(file) as film:
        assert film.n_frames == 3
        _checked(_label_of(file))
    with av.open(io.BytesIO(file), format="apng") as film:
        decoded = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert all(np.array_equal(a, b) for a, b in zip(decoded, frames, strict=True))


@pytest.mark.parametrize("odd", [0, 1], ids=["even", "odd"])
def test_a_recording_says_so_and_keeps_every_sample(odd: int) -> None:
    plain = wav(SOUND[: len(SOUND) - odd], RATE)
    file = MARK.on_file(plain)
    with wave.open(io.BytesIO(file)) as marked, wave.open(io.BytesIO(plain)) as before:
        assert marked.getparams() == before.getparams()
        assert marked.readframes(RATE) == before.readframes(RATE)
    _checked(json.loads(_chunks(file)[b"AIGC"]))
    with soundfile.SoundFile(io.BytesIO(file)) as sound:
        assert sound.comment == "AI-generated"
    with av.open(io.BytesIO(file)) as sound:
        assert sound.metadata["comment"] == "AI-generated"


def _chunks(file: bytes) -> dict[bytes, bytes]:
    """Of a RIFF file, as Microsoft and IBM describe it."""
    name, size, form = struct.unpack_from("<4sI4s", file)
    assert (name, size, form) == (b"RIFF", len(file) - 8, b"WAVE")
    at, out = 12, {}
    while at < len(file):
        chunk, length = struct.unpack_from("<4sI", file, at)
        assert chunk not in out
        out[chunk] = file[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    assert at == len(file)
    return out


@pytest.mark.parametrize(("container", "subtype"), [("MP3", None), ("FLAC", None), ("OGG", "OPUS")])
def test_other_containers_say_so_and_keep_every_sample(container: str, subtype: str | None) -> None:
    place = io.BytesIO()
    soundfile.write(place, SOUND, RATE, format=container, subtype=subtype)
    file = MARK.on_file(place.getvalue())
    assert np.array_equal(soundfile.read(io.BytesIO(file))[0], soundfile.read(io.BytesIO(place.getvalue()))[0])
    with av.open(io.BytesIO(file)) as sound:
        tags = dict(sound.metadata) | dict(sound.streams.audio[0].metadata)  # Ogg's belong to the stream
        decoded = sum(frame.samples for frame in sound.decode(audio=0))
    _checked(json.loads(tags["AIGC"]))
    assert decoded >= RATE


def test_what_is_no_known_file_comes_back_as_it_is() -> None:
    assert MARK.on_file(b"something else") == b"something else" and MARK.on_file(b"") == b""


@pytest.mark.parametrize("shape", [(8, 8), (28, 30, 3), (600, 900)])
def test_the_label_that_is_seen(shape: tuple[int, ...]) -> None:
    picture = np.full(shape, 127, dtype=np.uint8)
    file = SEEN.on_file(png([picture]))
    seen = np.asarray(_opened(file))
    assert seen.shape[2:] == picture.shape[2:]
    height, width = shape[:2]
    left = (seen.shape[1] - width) // 2
    assert np.array_equal(seen[:height, left : left + width], picture), "nothing of the picture is covered"
    rows = np.flatnonzero((seen[height:] == 255).any(tuple(range(1, seen.ndim))))
    assert len(rows) >= 11 and len(rows) >= 0.05 * min(height, width), "the standard's least height of letters"
    _checked(_label_of(file))


def test_every_frame_of_a_film_has_the_label_that_is_seen() -> None:
    with _opened(SEEN.on_file(png([PICTURE, PICTURE[::-1]], 125))) as film:
        frames = []
        for i in range(film.n_frames):
            film.seek(i)
            frames.append(np.asarray(film.convert("RGB"))[28:])
        assert film.info["duration"] == 125
    assert len(frames) == 2 and all((frame == 255).any() for frame in frames)


def test_the_rhythm_that_is_heard() -> None:
    file = SEEN.on_file(wav(SOUND, RATE))
    samples, rate = soundfile.read(io.BytesIO(file))
    code = rhythm(RATE)
    assert rate == RATE and len(samples) == len(code) + len(SOUND)
    assert np.abs(samples[len(code) :] - SOUND).max() < 1e-4
    loud = np.abs(samples[: len(code)]).reshape(-1, RATE // 10).max(1) > 0.1
    sounds = [len(run) for run in "".join("#" if on else " " for on in loud).split()]
    assert sounds == [1, 3, 1, 1], "short, long, short, short: AI"
    _checked(json.loads(_chunks(file)[b"AIGC"]))


def test_texts_have_words_for_it_where_people_are_to_see_it() -> None:
    assert MARK.on_text("Quiet.") == "Quiet." and SEEN.on_text("Quiet.") == f"{TEXT_LABEL} Quiet."
    assert "AI" in TEXT_LABEL and "生成" in TEXT_LABEL


@pytest.mark.parametrize("name", ["", "two words", 'a"b', "a\\b", "公司", "a\n"])
def test_a_producer_that_the_standard_forbids_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--producer expects"):
        Mark.of(name, "model")


def test_by_default_the_producer_is_the_model() -> None:
    assert Mark.of(None, "model").producer == "onetrunk/model" and Mark.of(None, None).producer == "onetrunk"
    assert Mark.of(None, "我的 模型").producer.isascii()
