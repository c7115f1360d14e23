"""The data and evaluation sides of a column type need no torch: it cannot be imported in the process that uses them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from worlds import CASES

CHILD = """
import json, pickle, sys


class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("torch is not to be imported here")


sys.meta_path.insert(0, NoTorch())  # sys.modules["torch"] = None would do too, but SciPy looks there

import numpy as np

from onetrunk.core.answer import Answer
from onetrunk.core.content import ReadPositions, Role
from onetrunk.core.encoder import SegmentContext, reads_on
from onetrunk.core.registry import column_types

AUGMENTED_BY_TORCH = ("image", "video")  # in training, where it is there
JUDGED_BY_VALUE = ("audio", "boxes", "date", "image", "number", "series", "video")  # the others' answers hold more

with open(sys.argv[1], "rb") as file:
    cases = pickle.load(file)
for name, options, values, facts in cases:
    kind = column_types.get(name)
    encoder = kind.encoder(options)
    encoder.fit(values)
    encoder.set_knowledge(json.loads(json.dumps(encoder.knowledge())))
    kind.encoder.recognise(values), kind.encoder.describe(values), kind.encoder.show(values[0])
    content, present = encoder.encode_all(values, print)
    assert present.all()
    keys = np.arange(len(values), dtype=np.uint64)
    read_on = ReadPositions(np.full(len(values), 16), facts) if reads_on(encoder) else None
    for role in (Role.GIVEN, Role.ASKED, Role.MASKED):
        here = read_on if role == Role.ASKED else None
        encoder.segment(content, SegmentContext(role, keys, name not in AUGMENTED_BY_TORCH, here))
    assert len(encoder.extend(values)) == 0
    evaluation = kind.evaluation(encoder)
    assert evaluation.metrics() and evaluation.features().fit_transform(values).shape[0] == len(values)
    assert list(evaluation.baselines()) and len(evaluation.target(values)) == len(values)
    if name in JUDGED_BY_VALUE:
        measured = evaluation.measure([Answer(value) for value in values], values)
        assert measured.keys() <= {metric.name for metric in evaluation.metrics()}
        assert next(iter(measured)) == evaluation.metrics()[0].name
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("name", CASES)
def test_values_are_encoded_and_answers_judged_without_torch(name: str, tmp_path: Path) -> None:
    import numpy as np

    case, facts = CASES[name], {"frame": np.tile(np.float32([[16, 0, 16], [0, 16, 16]]), (12, 1, 1))}
    (tmp_path / "cases.pickle").write_bytes(pickle.dumps([(case.type, case.options, case.values, facts)]))
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "cases.pickle")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
