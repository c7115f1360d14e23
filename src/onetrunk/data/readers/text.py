"""Text files of any size: which encoding they are in, and their bytes as UTF-8, in blocks."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from onetrunk.core.errors import DataError
from onetrunk.core.unpacking import Unpacked
from onetrunk.data.readers.encodings import east_asian

Notes = list[str]

_BLOCK = 1 << 20


class TextFile:
    """A file of text: UTF-8 (with or without a mark), UTF-16 with its mark, or Chinese, Japanese or Korean in one of
    their older encodings, where that is clear; packed by gzip or not.

    Which it is, is known after one pass over the file, and noted where it is not UTF-8. Raises DataError where it is
    none of these, empty, or not whole.
    """

    def __init__(self, path: Path, notes: Notes) -> None:
        self.path = path
        self.quoted = False  # does it hold quotation marks?
        with _reading(path):
            self.encoding, self.size = self._detect(notes)

    def _open(self) -> BinaryIO:
        packed = self.path.suffix.lower() == ".gz"
        return cast("BinaryIO", gzip.open(self.path, "rb")) if packed else self.path.open("rb")

    def text(self) -> TextIO:
        """Its text, with line breaks as they are."""
        return io.TextIOWrapper(self._open(), self.encoding, newline="")

    def utf8(self) -> BinaryIO:
        """Its text in UTF-8, without a mark."""
        return self._open() if self.encoding == "utf-8" else cast("BinaryIO", io.BufferedReader(_Utf8(self.text())))

    def blocks(self) -> Iterator[str]:
        with _reading(self.path), self.text() as file:
            while block := file.read(_BLOCK):
                yield block

    def read(self) -> str:
        """All of it."""
        return "".join(self.blocks())

    def _detect(self, notes: Notes) -> tuple[str, int]:
        """The encoding, and how many bytes there are once unpacked."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        size, blank, offset = 0, True, None
        for block in self._raw():
            if size == 0 and block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                notes.append(f"{self.path.name} is UTF-16.")
                self.quoted = True
                return "utf-16", sum(map(len, self._raw()))
            if offset is None:
                waiting = len(decoder.getstate()[0])
                try:
                    decoder.decode(block)
                except UnicodeDecodeError as error:
                    offset = size - waiting + error.start
            size += len(block)
            self.quoted = self.quoted or b'"' in block
            blank = blank and not block.strip()
        if offset is None:
            try:
                decoder.decode(b"", final=True)
            except UnicodeDecodeError:
                offset = size - len(decoder.getstate()[0])
        if blank:
            raise DataError(f"{self.path} is empty: expected a header and rows, found {size} bytes.")
        if offset is None:
            marked = next(self._raw()).startswith(codecs.BOM_UTF8)
            return ("utf-8-sig" if marked else "utf-8"), size
        if (encoding := east_asian(self._raw)) is None:
            raise self._unknown_encoding(offset)
        notes.append(f"{self.path.name} is not UTF-8 (byte offset {offset:,}); it was read as {encoding[1]}.")
        return encoding[0], size

    def _raw(self) -> Iterator[bytes]:
        unpacked = Unpacked(self.path.stat().st_size)
        with self._open() as file:
            while block := file.read(_BLOCK):
                if (bomb := unpacked.bomb(len(block))) is not None:
                    raise DataError(f"Cannot read {self.path}: {bomb}.")
                yield block

    def _unknown_encoding(self, offset: int) -> DataError:
        before, byte = 0, 0
        seen = 0
        for block in self._raw():
            if seen + len(block) > offset:
                before += block.count(b"\n", 0, offset - seen)
                byte = block[offset - seen]
                break
            before += block.count(b"\n")
            seen += len(block)
        return DataError(
            f"{self.path} is not UTF-8: byte 0x{byte:02x} at offset {offset:,} (line {before + 1:,}). "
            "Save it as UTF-8, or convert it: iconv -f ENCODING -t UTF-8."
        )


class _Utf8(io.RawIOBase):
    """A stream of text as UTF-8."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._waiting:
            self._waiting = self._text.read(_BLOCK).encode("utf-8")
        n = min(len(buffer), len(self._waiting))
        buffer[:n], self._waiting = self._waiting[:n], self._waiting[n:]
        return n

    def close(self) -> None:
        self._text.close()
        super().close()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what can go wrong with a file into one plain DataError."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file: {error}.") from None
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from None


def read_text(path: Path, notes: Notes) -> str:
    """The whole file as text (`TextFile`)."""
    return TextFile(path, notes).read()
