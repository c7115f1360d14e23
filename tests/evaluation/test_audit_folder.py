"""What a folder should not hold is found, and what it may hold is not."""

from __future__ import annotations

import json
import pickle
import random
import string
from pathlib import Path

import pytest
import worlds

from onetrunk.evaluation.audit.folder import look_through
from onetrunk.evaluation.audit.record import Security
from onetrunk.evaluation.audit.secrets import secrets_in_json, secrets_in_text

TABLE = {"note": ["a pear", "a plum", "an egg", "a fig"] * 4, "kind": ["fruit", "fruit", "food", "fruit"] * 4}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audited") / "model"
    worlds.model(TABLE, {"note": "text", "kind": "category"}).save(folder)
    return folder


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(model, tmp_path / "model"))


def _serious(found: Security) -> dict[str, str]:
    return {finding.file: finding.what for finding in found.findings if finding.serious}


def test_a_saved_model_is_clean(folder: Path) -> None:
    found = look_through(folder)
    assert found.findings == [] and found.files == found.digests + 1  # the manifest itself


class Evil:
    def __reduce__(self):
        raise AssertionError("nothing is unpickled")


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles_are_found_by_content(folder: Path, protocol: int) -> None:
    (folder / "weights.txt").write_bytes(pickle.dumps(string.Formatter(), protocol=protocol))
    assert "pickle" in _serious(look_through(folder))["weights.txt"]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("extra.py", b"print(1)", "code"),
        ("notes.md", b"#!/bin/sh\necho", "script"),
        ("data", b"\x7fELF\x02\x01", "program"),
        ("archive.safetensors", b"PK\x03\x04rest", "archive"),
        ("vectors.npy", b"\x93NUMPY\x01", "archive or array"),
        ("page.html", b"<html><script>alert(1)</script>", "script"),
        ("other.json", b"{not json", "not proper JSON"),
        ("remote.json", b'{"auto_map": {"AutoModel": "modeling.Evil"}}', "remote code"),
    ],
)
def test_what_a_folder_should_not_hold_is_found(folder: Path, name: str, content: bytes, what: str) -> None:
    (folder / name).write_bytes(content)
    found = look_through(folder)
    assert what in _serious(found)[name]
    assert any(f.file == name and "not named by the manifest" in f.what for f in found.findings)


def test_changed_missing_and_linked_files_are_found(folder: Path, tmp_path: Path) -> None:
    config = folder / "config.json"
    config.write_text(config.read_text() + " ")
    (folder / "provenance.json").unlink()
    (tmp_path / "outside.txt").write_text("x")
    (folder / "link").symlink_to(tmp_path / "outside.txt")
    serious = _serious(look_through(folder))
    assert "SHA-256" in serious["config.json"] and "not there" in serious["provenance.json"]
    assert "a link to" in serious["link"]


def _random(letters: str, n: int) -> str:
    return "".join(random.Random(1).choices(letters, k=n))


ALNUM = string.ascii_letters + string.digits
PLANTED = {
    "AWS": "AKIA" + _random(string.ascii_uppercase + string.digits, 16),
    "GitHub": "ghp_" + _random(ALNUM, 36),
    "Hugging Face": "hf_" + _random(ALNUM, 34),
    "API key": "sk-" + _random(ALNUM, 40),
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "password in an address": "postgres://admin:hunter2@db.example.org/x",
    "web token": ".".join("eyJ" + _random(ALNUM, 20) if i < 2 else _random(ALNUM, 20) for i in range(3)),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_secrets_are_found_and_not_shown(folder: Path, kind: str) -> None:
    secret = PLANTED[kind]
    card = folder / "NOTES.md"
    card.write_text(f"# Notes\n\nuse {secret} to log in\n")
    (folder / "more.json").write_text(json.dumps({"a": [{"b": f"x {secret}"}]}))
    found = [f for f in look_through(folder).findings if f.serious]
    assert {(f.file, f.where) for f in found} == {("NOTES.md", "line 3"), ("more.json", "a[0].b")}
    assert all(kind in f.what and secret not in f.what for f in found)


def test_values_under_names_of_secrets_and_random_texts() -> None:
    found = list(secrets_in_json({"api_key": "short", "password": "", "note": _random(ALNUM, 40)}))
    assert [(where, sure) for where, _, _, sure in found] == [("api_key", True), ("note", False)]
    assert [what for what, _, _ in secrets_in_text("see /home/somebody/data.csv")] == ["a path of somebody's machine"]


@pytest.mark.parametrize(
    "harmless",
    [
        "A model made with Onetrunk. All figures below are of rows that it did not learn from.",
        "CC(=O)Oc1ccccc1C(=O)O", "9b74c9897bac770ffc029102a200c5de9b74c9897bac770ffc029102a200c5de",
        "https://arxiv.org/abs/2402.05602", "supercalifragilisticexpialidocious",
        "blocks.11.attention.query_norm.weight",
        "token task-id sk-learn hf_hub",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_not_taken_for_one(harmless: str) -> None:
    assert list(secrets_in_text(harmless)) == []


def test_digests_and_pictures_in_json_are_passed_over() -> None:
    blob = _random(ALNUM, 60)
    assert list(secrets_in_json({"a.bin": {"sha256": blob}, "seen_rows": {"rows": blob}, "truth": {"png": blob}})) == []
