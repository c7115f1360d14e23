"""Marks what a model has made, for machines and for people.

China's GB 45438-2025 (in force since September 2025) asks for one label in a file's metadata, whose name holds AIGC,
with the seven elements of its annex E; for the place in each format there are practice guides of the committee TC260
(20259A for pictures, 202510A for sounds). Article 50 (2) of the EU's AI Act asks for a mark that machines can read;
IPTC's digital source type `trainedAlgorithmicMedia` is the usual word for that.

| file | where the label is |
|---|---|
| PNG, also moving | XMP (an iTXt chunk), as TC260:AIGC; beside it Iptc4xmpExt:DigitalSourceType |
| WAV | a chunk AIGC; beside it a comment in LIST/INFO |
| FLAC, Ogg | a Vorbis comment AIGC |
| MP3 | ID3v2, a TXXX frame AIGC |
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import struct
import urllib.parse
import zlib
from dataclasses import dataclass

from onetrunk.core.errors import UsageError
from onetrunk.media import sound_marks

KEY = "AIGC"  # annex E a) wants it in the name of what carries the label
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
TEXT_LABEL = "[AI生成 AI-generated]"  # GB 45438-2025, 5.1: words for "AI" and for "generated", at an end of the text

_GENERATED = "1"  # annex E c): it is generated; 2 and 3 mean that it may be
_ALLOWED = re.compile(r"[!#-\[\]-~]+")  # annex E j): printable ASCII without space, quotation mark and backslash
_PNG = b"\x89PNG\r\n\x1a\n"
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"><TC260:AIGC>{label}</TC260:AIGC>'
    "<Iptc4xmpExt:DigitalSourceType>{source_type}</Iptc4xmpExt:DigitalSourceType></rdf:Description></rdf:RDF>"
    "</x:xmpmeta>"
)


@dataclass(frozen=True)
class Mark:
    """`producer`: who is answerable for what the model makes, in printable ASCII without spaces, quotation marks and
    backslashes. `visible`: people are to see or hear it too. Raises UsageError."""

    producer: str
    visible: bool = False

    def __post_init__(self) -> None:
        if not _ALLOWED.fullmatch(self.producer):
            raise UsageError(
                "--producer expects a name or code of printable ASCII characters without spaces, quotation marks and "
                f"backslashes, as GB 45438-2025 prescribes; found {self.producer!r}."
            )

    @classmethod
    def of(cls, producer: str | None, model: str | None, visible: bool = False) -> Mark:
        """By default the producer is this package with the model's name, whose other characters are percent-encoded."""
        name = f"onetrunk/{urllib.parse.quote(model, safe='', errors='surrogateescape')}" if model else "onetrunk"
        return cls(name if producer is None else producer, visible)

    def fields(self, identifier: str) -> dict[str, str]:
        """The seven elements, for content with this identifier. Who makes something is also the first to pass it on;
        what is reserved for protection stays empty."""
        return {
            "Label": _GENERATED,
            "ContentProducer": self.producer,
            "ProduceID": identifier,
            "ReservedCode1": "",
            "ContentPropagator": self.producer,
            "PropagateID": identifier,
            "ReservedCode2": "",
        }

    def on_file(self, file: bytes) -> bytes:
        """A picture, film or sound with its label. Files of other kinds come back as they are."""
        kind = _kind(file)
        if kind is None:
            return file
        if self.visible:
            from onetrunk.media import visible_label  # takes libraries that a table of texts does without

            file = visible_label.on_picture(file) if kind == "png" else visible_label.on_sound(file, kind)
        label = json.dumps(self.fields(content_id(file)), separators=(",", ":"))
        return _on_png(file, label) if kind == "png" else sound_marks.MARKERS[kind](file, KEY, label)

    def on_text(self, text: str) -> str:
        """The text, with words before it that a person sees, if that is wanted."""
        return f"{TEXT_LABEL} {text}" if self.visible else text


def content_id(*parts: bytes) -> str:
    """Equal for equal content."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _kind(file: bytes) -> str | None:
    return "png" if file.startswith(_PNG) else sound_marks.kind_of(file)


def _on_png(file: bytes, label: str) -> bytes:
    """With a chunk of XMP after the first chunk, the header."""
    xmp = _XMP.format(label=html.escape(label, quote=False), source_type=SOURCE_TYPE).encode()
    body = b"iTXt" + b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + xmp
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    end = len(_PNG) + 12 + int.from_bytes(file[len(_PNG) : len(_PNG) + 4])
    return file[:end] + chunk + file[end:]
