"""Atomic folders with manifests: a model folder is whole and verified, or it is refused.

A folder appears by one rename, after every byte in it and its `manifest.json` (size and SHA-256 of each file)
are durable, so kill -9 at any instant leaves the old folder, the new one, or a leftover that `recover` puts
right. One writer a path at a time. A folder is the user's too: what its manifest does not name is never touched.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from onetrunk.core.errors import ModelFileError, ResourceError, UsageError
from onetrunk.storage.disk import FULL, plain_error
from onetrunk.storage.regular import RESTORE, size_of_file
from onetrunk.storage.strict_json import read_json, write_json

FORMAT = 2  # of the folder; a higher one is from a newer onetrunk
MANIFEST = "manifest.json"
UNFINISHED = "unfinished.json"  # is there as long as a run is not at its end
# Of the run: not in the manifest.
TRAINING = (
    "checkpoints",
    "metrics.jsonl",
    "metrics.jsonl.tmp",
    "tensorboard",
    "bad_step.json",
    UNFINISHED,
    f"{UNFINISHED}.tmp",
)

# What tells of a model and is not computed with. A copy may lack it; evidence that is there is what was measured, and a
# person may edit the card.
CARD, EVIDENCE = "README.md", "evidence/"

_PAUSE = 1.0  # seconds before a full disk is tried once more

Entries = dict[str, dict[str, Any]]  # file name to {"size": bytes, "sha256": hex}


# -- folders -------------------------------------------------------------------------------------------------
def commit(path: str | Path, write: Callable[[Path], None], replace: bool = False, needs: int = 0) -> None:
    """Makes the folder `path` of what `write(staging)` puts in a new empty folder; all of it or nothing.

    An existing model is replaced only with `replace`; a training run's files (`TRAINING`) in it are kept, and so is
    whatever else stands in it.
    `needs` is how many bytes are about to be written, where known. Raises UsageError when the target is
    taken, ResourceError when the disk is full (twice, a moment apart) or denies writing: what was there before is then
    still there.
    """
    _commit(real(path), write, replace, needs, {})


def add_files(path: str | Path, write: Callable[[Path], None]) -> None:
    """Adds to a committed folder, or replaces in it, the files `write(staging)` makes: in one swap.

    The others are linked, not copied, and keep their recorded digests: damage to them is never blessed. A card that
    was edited stays as it is; the new one then stands beside it, as README.new.md.
    """
    path = real(path)
    old, kept = read_manifest(path), {}

    def write_and_link(staging: Path) -> None:
        write(staging)
        for name, entry in old.items():
            made = staging / name
            if name == CARD and made.exists() and _edited(path / name, entry):
                made.rename(made.with_name(f"{made.stem}.new{made.suffix}"))
            is_evidence = name == CARD or name.startswith(EVIDENCE)
            if not made.exists() and not (is_evidence and not (path / name).exists()):
                made.parent.mkdir(parents=True, exist_ok=True)
                os.link(path / name, made)
                kept[name] = entry

    _commit(path, write_and_link, True, 0, kept)


def verify(path: str | Path) -> None:
    """Raises ModelFileError naming the file unless every file of the manifest that is computed with is there and
    unchanged."""
    path = Path(path)
    for name, entry in read_manifest(path).items():
        file = path / name
        if name == CARD or (name.startswith(EVIDENCE) and not file.exists()):
            continue
        try:
            size = size_of_file(file)
            if size != entry["size"]:
                raise ModelFileError(f"{file} is damaged: {entry['size']:,} bytes expected, {size:,} found. {RESTORE}")
            if _sha256(file) != entry["sha256"]:
                raise ModelFileError(f"{file} is damaged: its content differs from the manifest. {RESTORE}")
        except OSError as error:
            raise ModelFileError(f"{file} cannot be read: {error.strerror}. {RESTORE}") from None


def _edited(file: Path, entry: dict[str, Any]) -> bool:
    """Is it there, and another one than was written?"""
    return file.is_file() and (file.stat().st_size != entry["size"] or _sha256(file) != entry["sha256"])


def read_manifest(path: str | Path) -> Entries:
    """The files of a committed folder. Raises ModelFileError where there is none, or a newer one."""
    restore(path)
    path = Path(path)
    if not path.is_dir():
        raise ModelFileError(f"There is no model folder {path}.")
    if not (path / MANIFEST).exists():
        raise ModelFileError(
            f"{path} has no {MANIFEST}: it is not a finished model folder. If its training was interrupted, "
            "run the same command again to go on."
        )
    manifest = read_json(path / MANIFEST)
    written = manifest.get("format")
    if isinstance(written, int) and written > FORMAT:
        raise ModelFileError(
            f"{path} was made by a newer onetrunk (folder format {written}; this one reads up to {FORMAT}). "
            "Upgrade: pip install -U onetrunk"
        )
    files = manifest.get("files")
    if isinstance(written, int) and written < FORMAT:
        raise ModelFileError(
            f"{path} was made by an older onetrunk (folder format {written}; this one reads {FORMAT}). Make it again, "
            "from the same data and settings."
        )
    if written != FORMAT or not isinstance(files, dict):
        raise ModelFileError(f"{path / MANIFEST} is not a manifest of format {FORMAT}. {RESTORE}")
    for name, entry in files.items():
        if not _inside(name) or not isinstance(entry, dict) or entry.keys() != {"size", "sha256"}:
            raise ModelFileError(f"{path / MANIFEST} has a bad entry {name!r}. {RESTORE}")
    return files


def real(path: str | Path) -> Path:
    """Where a path leads: what replaces a folder stands where the links to it point."""
    return Path(os.path.realpath(path))


def recover(path: str | Path) -> None:
    """Puts right what a killed writer of `path` left beside it. Not while another writes."""
    path = real(path)
    restore(path)
    for old in _leftovers(path, "old"):
        owned = _owned(old)
        if owned is not None:  # else nobody knows which of its files are the user's: it stays
            _hand_over(old, path, owned)
            _remove(old, owned)
    for staging in _leftovers(path, "tmp"):
        shutil.rmtree(staging)


def discard(path: Path) -> None:
    """Removes a folder of a run. Killed half-way, it leaves nothing of this name, and what `recover` sweeps."""
    staging = path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex}")
    path.rename(staging)
    shutil.rmtree(staging)


def restore(path: str | Path) -> None:
    """Gives the old folder its name back when a writer was killed between the two renames of a swap."""
    path = real(path)
    if not path.exists():
        for old in _leftovers(path, "old")[:1]:
            old.rename(path)


def _owned(folder: Path) -> set[str] | None:
    """The files that are the model's, of whatever format; none where there is no manifest. None where it is damaged."""
    if not os.path.lexists(folder / MANIFEST):
        return set()
    try:
        files = read_json(folder / MANIFEST).get("files")
    except ModelFileError:
        return None
    return {name for name in files if _inside(name)} | {MANIFEST} if isinstance(files, dict) else None


def _inside(name: str) -> bool:
    """Is it the name of a file in the folder? Of null bytes and halves of surrogate pairs no name is made."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return bool(name) and "\0" not in name and not name.startswith("/") and ".." not in Path(name).parts


def _others(folder: Path, owned: set[str], prefix: str = "") -> Iterator[str]:
    """What else stands in a folder: files, links, and folders that hold nothing of the model's."""
    for entry in sorted(folder.iterdir()):
        name = prefix + entry.name
        if name in owned:
            continue
        if _is_folder(entry) and any(own.startswith(f"{name}/") for own in owned):
            yield from _others(entry, owned, f"{name}/")
        else:
            yield name


def _is_folder(entry: Path) -> bool:
    return entry.is_dir() and not entry.is_symlink()


def _hand_over(old: Path, new: Path, owned: set[str], prefix: str = "") -> None:
    """Moves into the new folder what was in the old one and is not the model's."""
    for name in list(_others(old / prefix, owned, prefix)):
        entry, target = old / name, new / name
        if not os.path.lexists(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            entry.rename(target)
        elif name in TRAINING:  # the new folder has its own
            shutil.rmtree(entry) if _is_folder(entry) else entry.unlink()
        elif _is_folder(entry) and _is_folder(target):
            _hand_over(old, new, owned, f"{name}/")
            entry.rmdir()
        else:
            entry.rename(target.with_name(f"{target.name}.kept-{uuid.uuid4().hex}"))


def _remove(folder: Path, owned: set[str]) -> None:
    """Removes a folder that holds nothing but the model's files; last the manifest, which says that it does."""
    for name in owned - {MANIFEST}:
        (folder / name).unlink(missing_ok=True)
    for folder_in in sorted((entry for entry in folder.rglob("*") if _is_folder(entry)), reverse=True):
        folder_in.rmdir()
    (folder / MANIFEST).unlink(missing_ok=True)
    folder.rmdir()


def _leftovers(path: Path, kind: str) -> list[Path]:
    if not path.parent.is_dir():
        return []
    name = re.compile(re.escape(path.name) + rf"\.{kind}-[0-9a-f]{{32}}")
    return sorted(entry for entry in path.parent.iterdir() if name.fullmatch(entry.name))


def _commit(path: Path, write: Callable[[Path], None], replace: bool, needs: int, known: Entries) -> None:
    """Tries once more, a moment later, where the disk is full: others may have given space back."""
    try:
        _try_commit(path, write, replace, needs, known)
    except ResourceError as error:
        if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in FULL:
            raise
        time.sleep(_PAUSE)
        _try_commit(path, write, replace, needs, known)


def _try_commit(path: Path, write: Callable[[Path], None], replace: bool, needs: int, known: Entries) -> None:
    staging = path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        recover(path)
        _check_target(path, replace)
        if shutil.disk_usage(path.parent).free < needs:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        staging.mkdir()
        write(staging)
        _check_others(staging, path)
        _seal(staging, known)
        _swap(staging, path)
    except OSError as error:
        raise plain_error(error, path, max(needs, _size(staging))) from error
    finally:
        recover(path)  # sweeps the staging folder of a failed commit, or the old one of a good commit


def _check_target(path: Path, replace: bool) -> None:
    """A folder that holds a run's own files and no model is an unfinished one: committing finishes it."""
    if not path.exists():
        return
    if not path.is_dir():
        raise UsageError(f"{path} already exists and is not a folder; name another --out.")
    if not (path / MANIFEST).exists():
        names = [entry.name for entry in path.iterdir()]
        if names and not any(name in TRAINING for name in names):
            raise UsageError(f"{path} holds other files and no model ({MANIFEST}): not replaced. Name another --out.")
        return
    if not replace:
        raise UsageError(f"{path} already exists. Choose another --out, or replace it with --overwrite.")
    if _owned(path) is None:
        raise UsageError(
            f"{path / MANIFEST} is damaged: which files in the folder are the model's cannot be told, and nothing is "
            "replaced. Name another --out, or remove the folder yourself."
        )


def _check_others(staging: Path, path: Path) -> None:
    """Raises UsageError where a new file would take the place of one that is not the model's."""
    if not path.exists():
        return
    for name in _others(path, _owned(path) or set()):
        if name not in TRAINING and (clash := _clash(path, staging, name)):
            raise UsageError(
                f"{path / clash} is not the model's, and stands where a file of it belongs: it is not touched. Move it "
                "to another place, then run the same command again."
            )


def _clash(path: Path, staging: Path, name: str) -> str | None:
    """The first of what stands at `name` in the one folder that cannot stand beside what the other holds."""
    for i in range(1, len(parts := Path(name).parts)):
        if (staging / Path(*parts[:i])).is_file():
            return name
    if not os.path.lexists(staging / name):
        return None
    if not (_is_folder(path / name) and _is_folder(staging / name)):
        return name
    inner = (_clash(path, staging, f"{name}/{entry.name}") for entry in sorted((path / name).iterdir()))
    return next(filter(None, inner), None)


def _seal(folder: Path, known: Entries) -> None:
    """Makes every file durable and writes the manifest; digests in `known` are taken over."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    entries: Entries = {}
    for file in files:
        name = file.relative_to(folder).as_posix()
        entries[name] = known.get(name) or {"size": file.stat().st_size, "sha256": _sha256(file)}
        _fsync(file)
    write_json(folder / MANIFEST, {"format": FORMAT, "files": entries})
    _fsync(folder / MANIFEST)
    for each in [folder, *(entry for entry in folder.rglob("*") if entry.is_dir())]:
        _fsync(each)


def _swap(staging: Path, path: Path) -> None:
    """The new folder takes the name of the old; `recover` finishes it or, killed half-way, takes it back."""
    if path.exists():
        path.rename(path.with_name(f"{path.name}.old-{uuid.uuid4().hex}"))
    staging.rename(path)
    _fsync(path.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
