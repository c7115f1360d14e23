"""What a model folder holds that it should not: code, pickles, files that are others than were written, secrets."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onetrunk.core.errors import ModelFileError
from onetrunk.evaluation.audit.record import Finding, Security
from onetrunk.evaluation.audit.secrets import secrets_in_json, secrets_in_text
from onetrunk.storage.atomic import CARD, MANIFEST, TRAINING, read_manifest

_CODE = (
    ".py",
    ".pyc",
    ".pyd",
    ".so",
    ".dll",
    ".dylib",
    ".exe",
    ".sh",
    ".bat",
    ".ps1",
    ".js",
    ".jar",
    ".ipynb",
    ".wasm",
)
_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npy", ".npz", ".mar")
_PROGRAMS = {b"\x7fELF": "a program (ELF)", b"MZ": "a program (Windows)", b"#!": "a script",
             b"\xcf\xfa\xed\xfe": "a program (macOS)", b"\xca\xfe\xba\xbe": "a program (macOS or Java)",
             b"\x00asm": "a program (WebAssembly)"}  # fmt: skip
_GLOBAL = re.compile(rb"\Ac[\w.]+\n[\w.]+\n")  # how a pickle of protocol 0 names what it calls
_TEXT = (".json", ".jsonl", ".md", ".yaml", ".yml", ".txt", ".html", ".toml", ".cfg", ".ini", ".env", ".csv", ".log")
_MAX_TEXT = 32 << 20  # bytes of a file that is looked through for secrets
_MAX_OF_A_FILE = 20  # findings
_REMOTE = ("auto_map", "trust_remote_code", "custom_pipelines")
_PICTURE = re.compile(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=\s]+")


def look_through(folder: str | Path) -> Security:
    """Every file of a model folder, by its content and not only by its name; nothing in it is run or unpickled."""
    place = Path(folder)
    names = sorted(_files(place))
    findings: list[Finding] = []
    compared, digests = _digests(place, names)
    findings += digests
    size = 0
    for name in names:
        path = place / name
        if path.is_symlink():
            findings.append(Finding(name, f"a link to {os.readlink(path)}", serious=not _inside(path, place)))
            continue
        size += path.stat().st_size
        findings += _kind(path, name)
        findings += _told(path, name)
    return Security(len(names), size, compared, findings)


def _files(place: Path) -> Iterator[str]:
    for root, folders, files in os.walk(place):
        for name in [*files, *(f for f in folders if (Path(root) / f).is_symlink())]:
            yield (Path(root) / name).relative_to(place).as_posix()


def _inside(path: Path, place: Path) -> bool:
    return path.resolve().is_relative_to(place.resolve())


def _digests(place: Path, names: list[str]) -> tuple[int, list[Finding]]:
    """How many files are as the manifest says, and those that are not or that it does not name."""
    try:
        manifest = read_manifest(place)
    except ModelFileError as error:
        return 0, [Finding(MANIFEST, str(error))]
    out, compared = [], 0
    for name, entry in manifest.items():
        path = place / name
        if not path.is_file():
            out.append(Finding(name, "named by the manifest, and not there"))
        elif _sha256(path) != entry["sha256"]:
            what = "edited since it was written" if name == CARD else "its SHA-256 is not the manifest's"
            out.append(Finding(name, what, serious=name != CARD))
        else:
            compared += 1
    for name in names:
        if name != MANIFEST and name not in manifest and name.split("/")[0] not in TRAINING:
            out.append(Finding(name, "not named by the manifest: nobody knows whether it was changed", serious=False))
    return compared, out


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _kind(path: Path, name: str) -> list[Finding]:
    """Is it code, or does it become code when it is read?"""
    with path.open("rb") as file:
        start = file.read(4096)
    program = next((what for sign, what in _PROGRAMS.items() if start.startswith(sign)), None)
    suffix = path.suffix.lower()
    if program or suffix in _CODE:
        return [Finding(name, program or "code, by its name")]
    if (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05") or _GLOBAL.match(start):
        return [Finding(name, "a pickle: opening it can run code")]
    if start[:2] == b"PK" or start[:6] == b"\x93NUMPY" or suffix in _PICKLES:
        return [Finding(name, "an archive or array file of a kind that can hold pickles")]
    return []


def _told(path: Path, name: str) -> list[Finding]:
    """Secrets, remote code and scripts in what a person or a program reads."""
    if path.suffix.lower() not in _TEXT or name == MANIFEST:
        return []
    if path.stat().st_size > _MAX_TEXT:
        return [Finding(name, f"larger than {_MAX_TEXT >> 20} MB: not looked through for secrets", serious=False)]
    text = path.read_text(encoding="utf-8", errors="replace")
    out = []
    if path.suffix.lower() == ".json":
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            out.append(Finding(name, "not proper JSON"))
        else:
            out += [Finding(name, f"asks for remote code ({key})", where) for where, key in _remote(data)]
            out += [
                Finding(name, f"{what}: {shown}", where, sure) for where, what, shown, sure in secrets_in_json(data)
            ]
            return _some(out, name)
    for number, line in enumerate(_PICTURE.sub("", text).splitlines(), 1):
        out += [
            Finding(name, f"{what}: {shown}", f"line {number}", sure) for what, shown, sure in secrets_in_text(line)
        ]
    if path.suffix.lower() == ".html" and re.search(r"<script\b|javascript:", text, re.IGNORECASE):
        out.append(Finding(name, "a page with a script"))
    return _some(out, name)


def _remote(data: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(data, dict):
        for key, value in data.items():
            if key in _REMOTE and value:
                yield path or ".", key
            yield from _remote(value, f"{path}.{key}" if path else str(key))
    elif isinstance(data, list):
        for i, value in enumerate(data):
            yield from _remote(value, f"{path}[{i}]")


def _some(findings: list[Finding], name: str) -> list[Finding]:
    """The serious ones first, and of very many the first ones."""
    ordered = sorted(findings, key=lambda finding: not finding.serious)
    rest = len(ordered) - _MAX_OF_A_FILE
    return ordered[:_MAX_OF_A_FILE] + ([Finding(name, f"{rest} more of this kind", serious=False)] if rest > 0 else [])
