"""Boxes through the verbs: fine-tuned, judged, asked, and drawn in a folder beside the answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import worlds
from PIL import Image

import onetrunk

QUICK = ["finetune.steps=3", "finetune.documents=4", "train.tensorboard=false", "columns.boxes.min_score=0.001"]


def test_boxes_are_learnt_judged_and_drawn(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rows = []
    for i in range(40):
        Image.fromarray(np.dstack([worlds._picture(i)] * 2 + [np.full((32, 32), i, np.uint8)])).save(
            pictures / f"{i}.png"
        )
        part = ("train", "val", "test")[min(2, i // 24)] if i else "train"
        rows.append({"image": f"pictures/{i}.png", "boxes": worlds._scene(i), "split": part if i < 32 else "val"})
    table = tmp_path / "rows.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "finder"
    onetrunk.finetune(str(table), ask=["boxes"], out=str(out), size="nano", settings=QUICK, quiet=True)
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert any("mAP@.5" in r.get("validation", {}) for r in records)  # answers take one step: judged by the metric
    onetrunk.evaluate(str(out), str(table), against=str(table), allow_equal_rows=True, quiet=True)
    (task,) = json.loads((out / "evidence" / "metrics.json").read_text())["tasks"]
    assert task["metric"] == "mAP@.5" and [baseline["name"] for baseline in task["baselines"]] == ["usual boxes"]
    (samples,) = json.loads((out / "evidence" / "samples.json").read_text())
    assert samples and all("png" in sample["answer"] and "png" in sample["truth"] for sample in samples)
    asked = tmp_path / "asked.jsonl"
    asked.write_text("\n".join(json.dumps({"image": r["image"]}) for r in rows[:3]))
    frame = onetrunk.predict(str(out), str(asked), out=str(tmp_path / "found.jsonl"), quiet=True)
    assert [Path(p).parent.name for p in frame["boxes drawn"]] == ["found"] * 3
    assert all(Image.open(p).size == (512, 512) for p in frame["boxes drawn"])
    written = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [r["boxes"] for r in written] == frame["boxes"].tolist()
    assert all(len(e["box"]) == 4 and e["score"] > 0 for r in written for e in r["boxes"])
