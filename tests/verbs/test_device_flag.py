"""Every verb that computes takes `--device`, and refuses one that is not there before it does anything."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

import onetrunk
from onetrunk.core.errors import UsageError

# What each verb is called with; the files are not there: the device is looked at first.
COMPUTES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "train": (["absent.csv"], {"ask": ["label"]}),
    "tune": (["absent.csv"], {"ask": ["label"]}),
    "pretrain": (["absent.csv"], {}),
    "finetune": (["absent.csv"], {"ask": ["label"]}),
    "evaluate": (["absent", "absent.csv"], {}),
    "predict": (["absent", "absent.csv"], {}),
    "generate": (["absent"], {}),
    "embed": (["absent", "absent.csv"], {}),
    "explain": (["absent", "absent.csv"], {}),
    "audit": (["absent", "absent.csv"], {}),
    "serve": (["absent"], {}),
    "plan": (["absent.csv"], {}),
    "demo": ([], {}),
    "doctor": ([], {}),
}
COMPUTE_ON_THE_CPU = {"inspect", "prepare", "import", "export"}


def test_every_verb_is_one_or_the_other() -> None:
    takes = {name for name in onetrunk.VERBS if "device" in inspect.signature(onetrunk.verb(name)).parameters}
    assert takes == COMPUTES.keys() == set(onetrunk.VERBS) - COMPUTE_ON_THE_CPU


@pytest.mark.parametrize("verb", COMPUTES)
@pytest.mark.parametrize(
    ("device", "message"),
    [("gpu", "--device expects auto, cpu, cuda, cuda:N or mps; found 'gpu'."), ("cuda:7", "--device cuda:7: ")],
)
def test_a_wrong_device_is_refused_first(
    verb: str, device: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    positional, keywords = COMPUTES[verb]
    with pytest.raises(UsageError) as error:
        onetrunk.verb(verb)(*positional, **keywords, device=device, quiet=True)
    assert str(error.value).startswith(message) and "This machine has cpu" in str(error.value)
    assert error.value.exit_code == 2 and not list(tmp_path.iterdir())
