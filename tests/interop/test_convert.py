"""Pickled weights: never opened here; with --convert, in a process of its own, tensors alone and without network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import onetrunk
from onetrunk.core.errors import ModelFileError, UsageError
from onetrunk.interop import huggingface
from onetrunk.storage.tensors import load_tensors

checkpoints = pytest.importorskip("bench.trials.checkpoints", reason="needs transformers")


def pickled(folder: Path, shards: int = 1) -> None:
    """The folder's weights as .bin files."""
    state = load_tensors(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if shards == 1:
        torch.save(state, folder / "pytorch_model.bin")
        return
    names = sorted(state)
    parts = {f"pytorch_model-{i}.bin": names[i::shards] for i in range(shards)}
    for file, part in parts.items():
        torch.save({name: state[name] for name in part}, folder / file)
    weight_map = {name: file for file, part in parts.items() for name in part}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("shards", [1, 3])
def test_tensors_are_taken_out_of_pickles(tmp_path: Path, shards: int) -> None:
    checkpoints.write("gpt2", tmp_path / "in")
    expected = huggingface.read(tmp_path / "in").network.state_dict()
    pickled(tmp_path / "in", shards)
    before = sorted(path.name for path in (tmp_path / "in").iterdir())
    with pytest.raises(ModelFileError, match=r"never opened. onetrunk import .*in --convert takes the tensors out"):
        onetrunk.import_(str(tmp_path / "in"), out=str(tmp_path / "x"), quiet=True)
    onetrunk.import_(str(tmp_path / "in"), convert=True, out=str(tmp_path / "ours"), quiet=True)
    for name, tensor in onetrunk.load(tmp_path / "ours").network.state_dict().items():
        assert torch.equal(tensor, expected[name])
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == before


def test_code_in_a_pickle_does_not_run(tmp_path: Path) -> None:
    checkpoints.write("gpt2", tmp_path / "in")
    (tmp_path / "in" / "model.safetensors").unlink()
    canary = tmp_path / "it_ran"

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (canary,)

    torch.save({"x": Evil()}, tmp_path / "in" / "pytorch_model.bin")
    with pytest.raises(ModelFileError, match=r"pytorch_model.bin cannot be converted: Weights only load failed"):
        onetrunk.import_(str(tmp_path / "in"), convert=True, out=str(tmp_path / "ours"), quiet=True)
    assert not canary.exists() and not (tmp_path / "ours").exists()
    torch.save([1, 2], tmp_path / "in" / "pytorch_model.bin")
    with pytest.raises(ModelFileError, match="it holds no tensors by name"):
        onetrunk.import_(str(tmp_path / "in"), convert=True, out=str(tmp_path / "ours"), quiet=True)
    (tmp_path / "in" / "pytorch_model.bin").unlink()
    with pytest.raises(ModelFileError, match="there is nothing to convert"):
        onetrunk.import_(str(tmp_path / "in"), convert=True, out=str(tmp_path / "ours"), quiet=True)
    with pytest.raises(UsageError, match="--convert is for pickled weights"):
        onetrunk.import_(str(tmp_path / "in"), convert=True, base="b", out=str(tmp_path / "ours"), quiet=True)


@pytest.mark.parametrize(
    "code",
    ["import socket; socket.create_connection(('127.0.0.1', 9))", "import subprocess; subprocess.run(['true'])",
     "import os; os.system('true')", "import os; os.execv('/bin/true', ['true'])"],
)  # fmt: skip
def test_the_process_reaches_no_network_and_starts_nothing(code: str) -> None:
    guarded = f"from onetrunk.interop.huggingface.unpickle import guard; guard(); {code}"
    done = subprocess.run([sys.executable, "-c", guarded], capture_output=True, text=True, check=False)
    assert done.returncode and "a file that is converted asked for" in done.stderr
