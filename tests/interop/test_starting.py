"""Verbs that begin from other people's checkpoints: import, and --from."""

from __future__ import annotations

import json
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import onetrunk
from onetrunk import cli
from onetrunk.core.errors import UsageError
from onetrunk.interop import huggingface

checkpoints = pytest.importorskip("bench.trials.checkpoints", reason="needs transformers")

QUICK = ["pretrain.steps=2", "finetune.steps=3", "train.tensorboard=false", "train.lr=0.01"]


def table(n: int = 60) -> dict[str, list[Any]]:
    labels = ["good", "bad"] * (n // 2)
    return {"review": [f"The room {i} was {label}" for i, label in enumerate(labels)], "label": labels}


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["onetrunk", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_command_makes_a_folder_that_goes_on_from_a_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints.write("gpt2", tmp_path / "gpt2")
    assert run(monkeypatch, "import", tmp_path / "gpt2", "--out", tmp_path / "ours") == 0
    assert "gpt2 with text" in capsys.readouterr().err
    frame = onetrunk.generate(str(tmp_path / "ours"), prompt="The room", n=2, max_length=4, quiet=True)
    assert all(text.startswith("The room") for text in frame["text"])
    assert run(monkeypatch, "import", tmp_path / "gpt2", "--out", tmp_path / "ours") == 2
    assert run(monkeypatch, "import", tmp_path / "gpt2", "--tower", "text", "--out", tmp_path / "other") == 2
    (tmp_path / "gpt2" / "model.safetensors").write_bytes(b"PK\x03\x04 a zip of pickles")
    assert run(monkeypatch, "import", tmp_path / "gpt2", "--out", tmp_path / "other") == 4
    assert "pickle" in capsys.readouterr().err and not (tmp_path / "other").exists()
    assert run(monkeypatch, "import", tmp_path / "nothing", "--out", tmp_path / "other") == 2


def test_a_hub_name_stays_offline_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: list[dict[str, Any]] = []

    def snapshot(name: str, **options: Any) -> str:
        asked.append({"name": name, **options})
        return str(tmp_path / "vit")

    checkpoints.write("vit", tmp_path / "vit")
    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    assert run(monkeypatch, "import", "hf://google/vit", "--out", tmp_path / "ours") == 0
    assert asked[0]["name"] == "google/vit" and asked[0]["local_files_only"]
    onetrunk.import_("hf://google/vit", out=str(tmp_path / "again"), allow_network=True, quiet=True)
    assert not asked[1]["local_files_only"]
    assert not {"*.bin", "*.py"} & set(asked[1]["allow_patterns"])


def test_a_model_folder_of_ours_goes_through_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    trained = onetrunk.finetune(table(240), ask=["label"], out=str(tmp_path / "m"), settings=QUICK, quiet=True,
                                size="nano", allow_equal_rows=True)  # fmt: skip
    onetrunk.evaluate(str(tmp_path / "m"), table(20), quiet=True)
    assert (tmp_path / "m" / "checkpoints").exists()
    asked: list[dict[str, Any]] = []

    def snapshot(name: str, **options: Any) -> str:
        """As the hub keeps files: links to them, with one of its own, and those alone that were asked for."""
        asked.append({"name": name, **options})
        place = tmp_path / "snapshot"
        place.mkdir(exist_ok=True)
        (place / ".gitattributes").write_text("*.safetensors filter=lfs")
        for file in (tmp_path / "m").rglob("*"):
            relative = file.relative_to(tmp_path / "m")
            kept = any(fnmatch(str(relative), pattern) for pattern in options["allow_patterns"])
            left = any(fnmatch(str(relative), pattern) for pattern in options["ignore_patterns"])
            if file.is_file() and kept and not left and not (place / relative).exists():
                (place / relative).parent.mkdir(parents=True, exist_ok=True)
                (place / relative).symlink_to(file)
        return str(place)

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    model = onetrunk.load("hf://me/mine")
    assert asked[-1]["local_files_only"] and not (tmp_path / "snapshot" / "checkpoints").exists()
    rows = {"review": ["The room was good"]}
    assert model.predict(rows)["label"].tolist() == trained.predict(rows)["label"].tolist()
    onetrunk.predict("hf://me/mine", rows, allow_network=True, quiet=True)
    assert not asked[-1]["local_files_only"]
    told = {"settings": QUICK, "quiet": True, "allow_equal_rows": True}
    onetrunk.finetune(table(240), ask=["label"], start="hf://me/mine", out=str(tmp_path / "on"), **told)
    with pytest.raises(UsageError, match=r"lies in the cache of the hub.*copy it first"):
        onetrunk.evaluate("hf://me/mine", table(20), quiet=True)
    (tmp_path / "m" / "onetrunk.json").unlink()
    (tmp_path / "snapshot" / "onetrunk.json").unlink()
    with pytest.raises(UsageError, match="A checkpoint: onetrunk import hf://me/mine"):
        onetrunk.load("hf://me/mine")


def test_a_copy_of_a_model_leaves_its_checkpoints_out(tmp_path: Path) -> None:
    onetrunk.finetune(table(240), ask=["label"], out=str(tmp_path / "m"), settings=QUICK, quiet=True, size="nano",
                      allow_equal_rows=True)  # fmt: skip
    assert (tmp_path / "m" / "checkpoints").exists()
    onetrunk.load(tmp_path / "m").save(tmp_path / "copy")
    assert not {"checkpoints", "tensorboard", "metrics.jsonl"} & {p.name for p in (tmp_path / "copy").iterdir()}
    onetrunk.load(tmp_path / "copy")


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_label_is_learnt_on_a_checkpoint(tmp_path: Path, kind: str) -> None:
    checkpoints.write(kind, tmp_path / kind)
    model = onetrunk.finetune(
        table(240), ask=["label"], start=str(tmp_path / kind), map={"text": "review"}, out=str(tmp_path / "tuned"),
        settings=QUICK, quiet=True,
    )  # fmt: skip
    assert model.network.given_causal == (kind == "gpt2")
    assert [stage["stage"] for stage in model.provenance["stages"]] == ["import", "finetune"]
    assert model.provenance["stages"][1]["config"]["train"]["optimizer"] == "adamw"
    assert model.provenance["stages"][1]["config"]["attention"] == ("causal" if kind == "gpt2" else "bidirectional")
    answers = onetrunk.predict(str(tmp_path / "tuned"), {"text": ["The room was good"]}, quiet=True)
    assert answers["label"][0] in ("good", "bad")


def test_pretraining_goes_on_and_training_moves_the_checkpoint(tmp_path: Path) -> None:
    checkpoints.write("bert", tmp_path / "bert")
    onetrunk.import_(str(tmp_path / "bert"), out=str(tmp_path / "ours"), quiet=True)
    before = onetrunk.load(tmp_path / "ours")
    model = onetrunk.pretrain(
        table(), start=str(tmp_path / "ours"), map={"text": "review"}, out=str(tmp_path / "on"), settings=QUICK,
        quiet=True,
    )  # fmt: skip
    assert model.encoder("text").knowledge() == before.encoder("text").knowledge(), "its tokenizer does not grow"
    one, other = before.network.trunk.state_dict(), model.network.trunk.state_dict()
    assert one.keys() == other.keys() and not all(torch.equal(one[name], other[name]) for name in one)
    assert [stage["stage"] for stage in model.provenance["stages"]] == ["import", "pretrain"]


def test_pictures_are_classified_on_a_checkpoint(tmp_path: Path) -> None:
    checkpoints.write("clip", tmp_path / "clip")
    onetrunk.import_(str(tmp_path / "clip"), tower="image", out=str(tmp_path / "ours"), quiet=True)
    dice = np.random.default_rng(0)
    rows = {"image": [dice.integers(0, 255, (20, 30, 3), dtype=np.uint8) for _ in range(40)], "label": ["a", "b"] * 20}
    model = onetrunk.finetune(
        rows, ask=["label"], start=str(tmp_path / "ours"), out=str(tmp_path / "tuned"), settings=QUICK, quiet=True
    )
    assert model.tasks[0].ask == ["label"] and len(model.answer({"image": rows["image"][:2]}, "label")) == 2
    drawn = model.answer({"label": ["a"]}, "image")
    assert np.asarray(drawn[0].value).shape == (16, 16, 3)


def test_a_checkpoint_learns_from_the_first_step(tmp_path: Path) -> None:
    """As in transformers: a read-out of zeros would teach its trunk nothing at first; and what a checkpoint knows
    nothing of, the level of noise in a picture, moves nothing while pictures are clean. A ViT of random weights had
    learnt half as much in 200 steps (accuracy .52, not .84; .87 in transformers)."""
    checkpoints.write("vit", tmp_path / "vit")
    dice = np.random.default_rng(0)
    rows = {
        "image": [dice.integers(0, 255, (16, 16, 3), dtype=np.uint8) for _ in range(400)],
        "label": ["a", "b"] * 200,
    }
    told: dict[str, Any] = {"ask": ["label"], "start": str(tmp_path / "vit"), "quiet": True, "restructure": True}
    settings = [*QUICK, "finetune.steps=1", "train.ema=0", "train.schedule=constant", "train.warmup=0"]
    before = huggingface.read(tmp_path / "vit").network
    model = onetrunk.finetune(rows, out=str(tmp_path / "m"), settings=settings, **told)
    head = model.module("label").head
    assert 0.01 < float(head.detach().std()) < 0.03
    moved = [
        name
        for name, tensor in before.trunk.state_dict().items()
        if not torch.equal(tensor, model.network.trunk.state_dict()[name])
    ]
    maps = [name for name in before.trunk.state_dict() if "proj.weight" in name]
    assert set(maps) <= set(moved)
    level = model.module("image").level_embedding.weight
    assert not level.any(), "a clean picture has no level"


def test_an_imported_model_is_judged_and_is_what_train_begins_with(tmp_path: Path) -> None:
    """It has no ledger, no seconds and no rows of its own: its evidence says what is known."""
    checkpoints.write("gpt2", tmp_path / "gpt2")
    onetrunk.import_(str(tmp_path / "gpt2"), out=str(tmp_path / "ours"), quiet=True)
    (task,) = onetrunk.evaluate(str(tmp_path / "ours"), {"text": table(30)["review"]}, quiet=True).tasks
    assert task.rows == 30 and task.metrics["perplexity"] > 1
    assert (tmp_path / "ours" / "README.md").exists() and onetrunk.load(tmp_path / "ours").tasks
    told = {"start": str(tmp_path / "ours"), "map": {"text": "review"}, "settings": QUICK, "quiet": True}
    onetrunk.train(table(240), ask=["label"], out=str(tmp_path / "m"), **told)
    assert json.loads((tmp_path / "m" / "evidence" / "metrics.json").read_text())["tasks"][0]["ask"] == "label"


def test_the_seed_decides_the_model_also_with_what_it_begins_from(tmp_path: Path) -> None:
    """New columns, new classes and new layers begin at random: at the seed's."""
    checkpoints.write("bert", tmp_path / "bert")
    checkpoints.write("gpt2", tmp_path / "gpt2")
    onetrunk.import_(str(tmp_path / "bert"), out=str(tmp_path / "ours"), quiet=True)

    def tuned(name: str, start: str, settings: list[str], **told: Any) -> dict[str, torch.Tensor]:
        torch.rand(len(name))  # wherever the generator stands
        model = onetrunk.finetune(
            table(), ask=["label"], start=str(tmp_path / start), map={"text": "review"}, out=str(tmp_path / name),
            settings=[*QUICK, *settings], restructure=True, quiet=True, **told,
        )  # fmt: skip
        return model.network.state_dict()

    for start, settings in (("ours", []), ("bert", []), ("gpt2", ["trunk.layers=3"])):
        name = f"{start}-{len(settings)}"
        one, again = (tuned(f"{name}-{how}", start, settings) for how in ("a", "again"))
        other = tuned(f"{name}-b", start, settings, seed=1)
        assert all(torch.equal(one[name], again[name]) for name in one), name
        assert not all(torch.equal(one[name], other[name]) for name in one), name
