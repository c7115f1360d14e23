"""A key and a text in the metadata of sound files. The samples stay as they are."""

from __future__ import annotations

import struct
from collections.abc import Callable

_COMMENT = "AI-generated"  # for players, which show a WAV file's comment and no chunk of ours
_FLAC_COMMENTS = 4  # type of the block (RFC 9639, 8.6)


def kind_of(file: bytes) -> str | None:
    """wav, flac, ogg or mp3; None for what is neither."""
    if file[:4] == b"RIFF" and file[8:12] == b"WAVE":
        return "wav"
    if file[:4] in (b"fLaC", b"OggS"):
        return "flac" if file[:4] == b"fLaC" else "ogg"
    return "mp3" if file[:1] == b"\xff" and len(file) > 1 and file[1] >= 0xE0 else None


def on_wav(file: bytes, key: str, text: str) -> bytes:
    """Chunks of RIFF after all others; each begins at an even byte."""
    comment = b"INFO" + _chunk(b"ICMT", _COMMENT.encode() + b"\x00")
    body = file[8:] + b"\x00" * (len(file) % 2) + _chunk(b"LIST", comment) + _chunk(key.encode(), text.encode())
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\x00" * (len(data) % 2)


def on_mp3(file: bytes, key: str, text: str) -> bytes:
    """A tag of ID3v2.4 before the first frame: one frame TXXX in UTF-8."""
    data = b"\x03" + key.encode() + b"\x00" + text.encode()
    frame = b"TXXX" + _sevens(len(data)) + b"\x00\x00" + data
    return b"ID3\x04\x00\x00" + _sevens(len(frame)) + frame + file


def _sevens(size: int) -> bytes:
    """Four bytes of seven bits each."""
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def on_flac(file: bytes, key: str, text: str) -> bytes:
    """A comment more in the block of comments, which is made after the first block where there is none."""
    blocks, start, last = [], 4, False
    while not last:
        last, kind = bool(file[start] & 0x80), file[start] & 0x7F
        end = start + 4 + int.from_bytes(file[start + 1 : start + 4])
        blocks.append((kind, file[start + 4 : end]))
        start = end
    if _FLAC_COMMENTS not in {kind for kind, _ in blocks}:
        blocks.insert(1, (_FLAC_COMMENTS, struct.pack("<II", 0, 0)))
    out = b"fLaC"
    for i, (kind, data) in enumerate(blocks):
        data = _commented(data, key, text) if kind == _FLAC_COMMENTS else data
        out += bytes([kind | 0x80 * (i == len(blocks) - 1)]) + len(data).to_bytes(3) + data
    return out + file[start:]


def _commented(comments: bytes, key: str, text: str) -> bytes:
    """Vorbis comments (vendor, count, then the comments), with one more at their end."""
    at = 4 + struct.unpack_from("<I", comments)[0]
    (count,) = struct.unpack_from("<I", comments, at)
    end = at + 4
    for _ in range(count):
        end += 4 + struct.unpack_from("<I", comments, end)[0]
    comment = f"{key}={text}".encode()
    more = struct.pack("<I", len(comment)) + comment
    return comments[:at] + struct.pack("<I", count + 1) + comments[at + 4 : end] + more + comments[end:]


def on_ogg(file: bytes, key: str, text: str) -> bytes:
    """A comment more in the second page, which holds Opus's comments alone (RFC 7845, 3)."""
    first = _page_end(file, 0)
    second = _page_end(file, first)
    segments = file[first + 26]
    tags = file[first + 27 + segments : second]
    if not tags.startswith(b"OpusTags"):
        return file
    tags = b"OpusTags" + _commented(tags[8:], key, text)
    lacing = bytes([255] * (len(tags) // 255) + [len(tags) % 255])
    page = file[first : first + 22] + bytes(4) + bytes([len(lacing)]) + lacing + tags
    page = page[:22] + struct.pack("<I", _ogg_checksum(page)) + page[26:]
    return file[:first] + page + file[second:]


def _page_end(file: bytes, start: int) -> int:
    segments = file[start + 26]
    return start + 27 + segments + sum(file[start + 27 : start + 27 + segments])


def _ogg_checksum(page: bytes) -> int:
    """CRC-32 with the polynomial 0x04C11DB7, neither reflected nor inverted (RFC 3533, 6)."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x8000_0000 else 0)) & 0xFFFF_FFFF
    return value


MARKERS: dict[str, Callable[[bytes, str, str], bytes]] = {
    "wav": on_wav, "mp3": on_mp3, "flac": on_flac, "ogg": on_ogg,
}  # fmt: skip
