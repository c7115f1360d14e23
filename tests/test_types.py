"""Types as a program outside of the package sees them, through `py.typed`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import onetrunk
from onetrunk.training.options import DataOptions, TrainingOptions

RESULTS = {
    'onetrunk.train("data.csv", ask="label")': "onetrunk.inference.model_folder.Model",
    'onetrunk.pretrain("data.csv")': "onetrunk.inference.model_folder.Model",
    'onetrunk.finetune("data.csv", ask=["label"])': "onetrunk.inference.model_folder.Model",
    'onetrunk.load("model")': "onetrunk.inference.model_folder.Model",
    'onetrunk.load("model").predict("new.csv")': "pandas.core.frame.DataFrame",
    'onetrunk.predict("model", "new.csv")': "pandas.core.frame.DataFrame | None",
    'onetrunk.evaluate("model", "new.csv")': "onetrunk.evaluation.record.Evidence",
    'onetrunk.read("data.csv")': "onetrunk.data.table.Table",
    'onetrunk.inspect("data.csv")': "onetrunk.data.inspection.Inspection",
    "onetrunk.doctor()": "dict[str, Any]",
}
# What others export is of no interest here, and takes most of the time.
SETTINGS = """[mypy]
strict = True
[mypy-torch.*,pyarrow.*,numpy.*,sklearn.*,pydantic.*,rich.*,transformers.*,tokenizers.*,PIL.*,typer.*]
follow_imports = skip
"""


def test_what_functions_return_is_known_outside(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    lines = ["import onetrunk", *(f"reveal_type({call})" for call in RESULTS), 'onetrunk.load("m").predct("x")']
    (tmp_path / "program.py").write_text("\n".join(lines) + "\n")
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", "cache", "program.py"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(onetrunk.__file__).parents[1])},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    revealed = re.findall(r'note: Revealed type is "(.*)"', done.stdout)
    assert revealed == list(RESULTS.values()), done.stdout + done.stderr
    assert 'error: "Model" has no attribute "predct"' in done.stdout


def test_one_name_is_a_list_of_one() -> None:
    assert DataOptions(ask="label", given="note", ignore="id") == DataOptions(
        ask=["label"], given=["note"], ignore=["id"]
    )
    assert TrainingOptions(settings="train.lr=1e-3").settings == ["train.lr=1e-3"]
