"""Model folders of today's format answer what they answered when they were made: `tests/golden/make.py` says how.

What a later version cannot open, or answers otherwise, is a change of format: raise `atomic.FORMAT`, keep a reader of
the older one, and make folders of the new one beside these. Where options were only added to what is written, these
folders show that they have good defaults.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from onetrunk.inference.model_folder import load
from onetrunk.storage import atomic
from onetrunk.storage.strict_json import read_json, write_json

GOLDEN = Path(__file__).parents[1] / "golden"
FOLDER = GOLDEN / f"format-{atomic.FORMAT}"
DESCRIPTION = "onetrunk.json"
sys.path.insert(0, str(GOLDEN))

import make  # noqa: E402  lies beside the folders


def _close(result: Any, expected: Any) -> bool:
    if isinstance(expected, list):
        return len(result) == len(expected) and all(map(_close, result, expected))
    if isinstance(expected, float) and isinstance(result, float):
        return result == pytest.approx(expected, rel=1e-4, abs=1e-5)
    return bool(result == expected)


@pytest.mark.parametrize("name", list(make.MODELS))
def test_a_folder_answers_what_it_answered(name: str) -> None:
    answers = make.answers(load(FOLDER / name, device="cpu"), name)
    expected = json.loads((FOLDER / f"{name}-answers.json").read_text(encoding="utf-8"))
    assert answers.keys() == expected.keys()
    for column, values in expected.items():
        assert _close(answers[column], values), (column, answers[column], values)


@pytest.mark.parametrize("name", list(make.MODELS))
def test_a_folder_that_is_saved_again_has_the_same_files(name: str, tmp_path: Path) -> None:
    """What is written today is what was written then: the same names, fields and shapes. A description may have gained
    options, which the old folder had by default."""
    load(FOLDER / name, device="cpu").save(tmp_path / name)
    old, new = (atomic.read_manifest(folder) for folder in (FOLDER / name, tmp_path / name))
    digests = [{file: each["sha256"] for file, each in files.items() if file != DESCRIPTION} for files in (old, new)]
    assert digests[0] == digests[1]
    assert_holds(read_json(tmp_path / name / DESCRIPTION), read_json(FOLDER / name / DESCRIPTION))


def assert_holds(new: Any, old: Any) -> None:
    """Everything that the old description says, the new one says, too."""
    if isinstance(old, dict):
        assert old.keys() <= new.keys()
        for key in old:
            assert_holds(new[key], old[key])
    else:
        assert new == old


def test_keys_of_the_first_folders_of_this_format_are_read(tmp_path: Path) -> None:
    """What is `attention` and `events` now stood there as `given` and `fold`."""
    shutil.copytree(FOLDER / "events", tmp_path / "events")

    def write(staging: Path) -> None:
        description = read_json(FOLDER / "events" / "onetrunk.json")
        for key, earlier in (("attention", "given"), ("events", "fold")):
            description[earlier] = description.pop(key)
        write_json(staging / "onetrunk.json", description)

    atomic.add_files(tmp_path / "events", write)
    model = load(tmp_path / "events", device="cpu")
    assert model.events is not None and model.events.window == 8
    assert make.answers(model, "events")["shop"] == ["a", "b"]
