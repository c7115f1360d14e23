"""The data side and the evidence side of a column type need no torch, and neither does what they import."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

VALUES: dict[str, list[Any]] = {
    "category": ["red", "blue", "red"],
    "number": [1.5, 2, 40],
    "date": ["2024-01-31", "2024-02-29", "2025-06-01"],
    "text": ["a house by the sea", "a house in town", "the sea"],
    "items": [["a", "b", "c"], ["c", "b"], ["a", "c"]],
    "trace": [{"skill": ["a", "b"], "correct": [True, False]}, {"skill": ["b"], "correct": [True]}] * 2,
    "molecule": ["CCO", "CCN", "C1CCNCC1"],
}
CODE = """
import json, sys

class NoTorch:  # sys.modules["torch"] = None would do too, but SciPy looks there
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "torch":
            raise ImportError("torch is not needed here")

sys.meta_path.insert(0, NoTorch())
import numpy as np
from onetrunk.core.content import Role
from onetrunk.core.encoder import SegmentContext
from onetrunk.core.registry import column_kinds

name, values = json.loads(sys.argv[1])
kind = column_kinds.get(name)
assert 0 <= kind.encoder.recognise(values) <= 1 and kind.encoder.describe(values)
assert kind.encoder.near_duplicate_key(values[0]) is None or kind.encoder.show(values[0])
encoder = kind.encoder()
encoder.fit(values)
content, present = encoder.encode_all(values, lambda i, reason: None)
assert present.all()
keys = np.arange(len(values), dtype=np.uint64)
for role in (Role.GIVEN, Role.ASKED, Role.MASKED):
    assert encoder.segment(content, SegmentContext(role, keys, augment=True)).lens.sum() > 0
again = kind.encoder()
again.set_knowledge(json.loads(json.dumps(encoder.knowledge())))
assert len(encoder.extend(values)) == 0
evaluation = kind.evaluation(encoder)
assert evaluation.metrics() and evaluation.features().fit_transform(values).shape[0] == len(values)
assert list(evaluation.baselines()) and len(evaluation.target(values)) == len(values)
"""


@pytest.mark.parametrize("name", VALUES)
def test_a_type_is_fitted_encoded_and_judged_without_torch(name: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps([name, VALUES[name]])], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
