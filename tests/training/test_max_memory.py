"""`--max-memory` means the same to every run: what would need more is not begun, and what it says to do instead is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import onetrunk
from onetrunk.core.errors import ResourceError, UsageError

TABLE = {"text": [f"{word} {i}" for i in range(40) for word in ("red", "blue")], "label": ["a", "b"] * 40}
SETTINGS = [
    "trunk={width: 64, layers: 6, heads: 2}", "pretrain.steps=1", "pretrain.min_steps=1", "train.tensorboard=false",
    "pretrain.objectives=[{kind: predict, documents: 256}]", "train.precision=fp32", "columns.text.unit=character",
]  # fmt: skip


def pretrain(out: Path, *settings: str, **options: Any) -> Any:
    return onetrunk.pretrain(
        TABLE, out=str(out), settings=[*SETTINGS, *settings], quiet=True, types={"text": "text"},
        allow_equal_rows=True, **options,
    )  # fmt: skip


def test_a_run_that_needs_more_is_refused_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"--max-memory allows 0.001") as error:
        pretrain(tmp_path / "model", max_memory="1MB")
    assert error.value.exit_code == 6 and "A smaller --size" in str(error.value)
    assert not (tmp_path / "model" / "checkpoints").exists()
    with pytest.raises(UsageError, match="--max-memory expects an amount like 8GB"):
        pretrain(tmp_path / "model", max_memory="much")


def test_what_it_says_to_do_is_enough(tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as error:
        pretrain(tmp_path / "model", max_memory="1MB")
    needed = float(re.findall(r"about ([\d.]+) GB", str(error.value))[0])
    allowed = f"{1e3 * needed - 25:.0f}MB"  # activations take more than twice that
    with pytest.raises(ResourceError, match="Micro-batches of") as error:
        pretrain(tmp_path / "model", max_memory=allowed)
    ways = re.findall(r"--set (\S+=\w+)", str(error.value))
    assert [way.partition("=")[0] for way in ways] == ["tokens_per_batch", "train.activation_checkpointing"]
    pretrain(tmp_path / "model", *ways, max_memory=allowed)
    assert (tmp_path / "model" / "manifest.json").exists()
