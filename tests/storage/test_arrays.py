"""Named arrays without PyTorch: as PyTorch reads and writes them, and refused alike where they are no such file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_atomic import CRAFTED

from onetrunk.core.errors import ModelFileError
from onetrunk.storage.arrays import map_arrays, save_arrays
from onetrunk.storage.tensors import load_tensors, save_tensors

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3), "房价.x/y": np.zeros((0, 4), dtype=np.int64),
    "bool": np.array([True, False, True]), "byte": np.arange(5, dtype=np.uint8), "one": np.array(3.5),
}  # fmt: skip


def test_arrays_are_the_tensors_that_pytorch_reads_and_writes(tmp_path: Path) -> None:
    save_arrays(tmp_path / "a.safetensors", ARRAYS)
    save_tensors(tmp_path / "t.safetensors", {name: torch.from_numpy(array) for name, array in ARRAYS.items()})
    for name in ("a.safetensors", "t.safetensors"):
        arrays, tensors = map_arrays(tmp_path / name), load_tensors(tmp_path / name)
        assert arrays.keys() == tensors.keys() == ARRAYS.keys()
        for key, array in ARRAYS.items():
            assert np.array_equal(arrays[key], array) and arrays[key].dtype == array.dtype
            assert np.array_equal(tensors[key].numpy(), array) and tensors[key].shape == array.shape


@pytest.mark.parametrize("case", [case for case in CRAFTED if case != "data left over"])
def test_crafted_files_are_refused(tmp_path: Path, case: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(CRAFTED[case][0])
    with pytest.raises(ModelFileError, match=r"x\.safetensors"):
        map_arrays(tmp_path / "x.safetensors")
    with pytest.raises(ModelFileError, match="cannot be read"):
        map_arrays(tmp_path / "nowhere.safetensors")


def test_all_but_the_tensors_file_does_without_pytorch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from onetrunk.storage import arrays, atomic, disk, header, names, strict_json\n"
        "assert 'safetensors' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_everybody_may_read_what_everybody_may_read(tmp_path: Path) -> None:
    """safetensors would leave its files to their owner alone, beside JSON that all may read."""
    (tmp_path / "plain").write_text("")
    save_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)})
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
