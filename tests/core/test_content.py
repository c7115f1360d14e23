"""What encoders make needs no torch: `core.content` and `core.answer` load where it is not installed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from onetrunk.core.content import Content


@pytest.mark.parametrize("module", ["onetrunk.core.content", "onetrunk.core.answer", "onetrunk.core.rng"])
def test_it_loads_without_torch(module: str) -> None:
    code = f"import sys; sys.modules['torch'] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_only_ragged_content_has_lengths() -> None:
    ragged = Content({"id": np.arange(5)}, np.array([2, 0, 3]))
    assert ragged.ragged and ragged.starts.tolist() == [0, 2, 2] and ragged.take(np.array([2])).lens.tolist() == [3]
    dense = Content({"value": np.zeros(4)})
    assert not dense.ragged and len(dense) == 4
    for name in ("lens", "starts"):
        with pytest.raises(TypeError, match=r"dense content has no lens and no starts; its arrays are value"):
            getattr(dense, name)
