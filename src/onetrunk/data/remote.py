"""Files elsewhere, by their address (`s3://`, `gs://`, `https://`, `hf://datasets/`): fetched whole, one at a time,
into the folder for temporary files, and only where the user allows the network."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onetrunk.core.errors import DataError, MissingExtraError, UsageError
from onetrunk.storage.disk import FULL, plain_error

_HUB, _FILES_OF_HUB = "hf://", "hf://datasets/"
# What the libraries below raise beside OSError; they are looked up once somebody has imported them.
_ERRORS = (("aiohttp", "ClientError"), ("botocore.exceptions", "BotoCoreError"), ("botocore.exceptions", "ClientError"))


def is_remote(source: Any) -> bool:
    """Is it the address of files elsewhere? The name of a dataset of the hub is none."""
    words = source if isinstance(source, str) else ""
    scheme, sign, _ = words.partition("://")
    if not sign or not scheme.replace("+", "").isalnum():
        return False
    return words.startswith(_FILES_OF_HUB) if words.startswith(_HUB) else True


def remote_files(address: str, allow_network: bool) -> list[str]:
    """The addresses that one with a pattern matches, in order. DataError where none does."""
    files, path = _file_system(address, allow_network)
    with _plain_errors(address):
        matches = sorted(files.glob(path))
    if not matches:
        raise UsageError(f"No file matches {address!r}: expected at least one.")
    return [str(files.unstrip_protocol(match)) for match in matches]


@contextmanager
def fetched(address: str, allow_network: bool) -> Iterator[Path]:
    """Inside, a copy of the file, of its name."""
    files, path = _file_system(address, allow_network)
    name = Path(address.partition("?")[0]).name or "file"
    with tempfile.TemporaryDirectory(prefix="onetrunk-") as folder:
        with _plain_errors(address):
            files.get_file(path, str(Path(folder) / name))
        yield Path(folder) / name


def _file_system(address: str, allow_network: bool) -> tuple[Any, str]:
    if not allow_network:
        raise UsageError(f"{address} is on the network, which is used only with --allow-network.")
    scheme = address.partition("://")[0]
    try:
        import fsspec
    except ImportError:
        raise MissingExtraError("fsspec", "remote", f"Reading {address}") from None
    try:
        files, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise MissingExtraError(error.name or f"for {scheme}://", "remote", f"Reading {address}") from None
    except ValueError as error:
        raise UsageError(f"Cannot read {address}: {error}.") from None
    return files, str(path)


@contextmanager
def _plain_errors(address: str) -> Iterator[None]:
    known = [getattr(sys.modules[module], name) for module, name in _ERRORS if module in sys.modules]
    try:
        yield
    except (OSError, ValueError, RuntimeError, *known) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise plain_error(error, Path(tempfile.gettempdir()), 0) from error
        reason = (str(error).splitlines() or [""])[0].rstrip(".")[:300]
        raise DataError(f"Cannot fetch {address}: {reason or type(error).__name__}.") from error
