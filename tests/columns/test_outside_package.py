"""A column type that lives in another package, known by its entry point alone: it passes the contract's tests, trains,
answers, and is exported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

TYPE = '''
"""How long something took, written h:mm:ss."""

from onetrunk.columns.families.scalar.encoder import ScalarEncoder
from onetrunk.core.errors import BadValueError

ENCODER = "stopwatch.duration:DurationEncoder"
MODULE = "onetrunk.columns.families.scalar.module:ScalarModule"
EVALUATION = "onetrunk.columns.families.scalar.evaluation:ScalarEvaluation"


class DurationEncoder(ScalarEncoder):
    type_name = "duration"

    @classmethod
    def recognise(cls, values):
        return float(all(isinstance(v, str) and v.count(":") == 2 for v in values))

    @classmethod
    def describe(cls, values):
        return {"shortest": min(values), "longest": max(values)}

    def to_line(self, value):
        try:
            hours, minutes, seconds = map(int, value.split(":"))
        except (ValueError, AttributeError):
            raise BadValueError(f"{value!r} is not a duration; write h:mm:ss") from None
        return 3600.0 * hours + 60 * minutes + seconds

    def from_line(self, position):
        seconds = max(0, round(position))
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
'''

# Loaded by pytest before the contract's tests: their sample values come from here.
PLUGIN = """
import worlds

def _close(answer, truth):
    minutes = [int(v.split(":")[0]) * 60 + int(v.split(":")[1]) for v in (answer, truth)]
    return abs(minutes[0] - minutes[1]) < 30

VALUES = [f"{i // 2}:{7 * i % 60:02}:{11 * i % 60:02}" for i in range(1, 13)]
worlds.CASES["duration"] = worlds.Case("duration", VALUES, "soon", _close)
"""

LIFE = """
import json, sys
import onetrunk

rows = [{"km": k + 0.5, "time": f"{k // 6}:{10 * k % 60:02}:00"} for k in range(1, 41)]
settings = ["finetune.steps=30", "size=nano", "train.tensorboard=false"]
onetrunk.finetune(rows, ask=["time"], out="runner", settings=settings, quiet=True)
answers = onetrunk.load("runner").predict([{"km": 10.5}])
exported = onetrunk.export("runner", rows, to="onnx", out="exported", quiet=True)
print(json.dumps({"answer": answers["time"].tolist()[0], "types": onetrunk.load("runner").columns["time"].type,
                  "exported": sorted(exported)}))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder that holds the package as pip would have left it."""
    (tmp_path / "stopwatch").mkdir()
    (tmp_path / "stopwatch" / "__init__.py").write_text("")
    (tmp_path / "stopwatch" / "duration.py").write_text(TYPE)
    (tmp_path / "sample_durations.py").write_text(PLUGIN)
    info = tmp_path / "stopwatch-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stopwatch\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[onetrunk.columns]\nduration = stopwatch.duration\n")
    return tmp_path


def _run(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(package), str(TESTS), *sys.path])
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=package,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_passes_the_contracts_tests(package: Path) -> None:
    contract = str(TESTS / "test_contract.py")
    done = _run(package, "-m", "pytest", "-q", "-p", "sample_durations", "-p", "no:cacheprovider", contract,
                "-k", "duration or every_registered_type")  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout and "failed" not in done.stdout
    assert int(done.stdout.split(" passed")[0].rsplit(maxsplit=1)[-1]) > 20


def test_it_trains_answers_and_is_exported(package: Path) -> None:
    done = _run(package, "-c", LIFE)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["types"] == "duration"
    assert result["answer"].count(":") == 2
    assert (package / "exported" / "export.json").exists()
