"""explain, from the command line and from Python."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import worlds

import onetrunk
from onetrunk import cli
from onetrunk.core.errors import UsageError
from onetrunk.inference.model_folder import Task

ROW = '{"note": "two blue birds", "kind": "b"}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    table = {"note": worlds.CASES["text"].values, "kind": list("abababababab"), "label": list("xyxyxyxyxyxy")}
    made = worlds.model(table, {"note": "text", "kind": "category", "label": "category"})
    made.tasks = [Task(["note", "kind"], ["label"])]
    path = tmp_path_factory.mktemp("explained") / "judge"
    made.save(path)
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["onetrunk", *arguments])
        cli.main()
    out = capsys.readouterr()
    return int(end.value.code or 0), out.out, out.err


def test_a_row_is_explained_as_json(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "explain", folder, ROW, "--compare", "shapley,lime", "--json")
    assert code == 0, err
    said = json.loads(out)
    (explained,) = said["explanations"]
    assert explained["ask"] == "label" and {c["column"] for c in explained["columns"]} == {"note", "kind"}
    note = next(c for c in explained["columns"] if c["column"] == "note")
    assert "".join(note["parts"]) == "two blue birds" and np.isfinite(note["by_part"]).all()
    judged = said["faithfulness"]
    assert set(judged["agreement"]) == {"shapley", "lime"}
    code, out, err = run(capsys, "explain", folder, ROW)
    assert code == 0 and not out and judged["message"] in " ".join(err.split())
    assert "completeness error" in err and "note: " in err


@pytest.mark.parametrize("suffix", [".html", ".json", ".png"])
def test_files(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    out = tmp_path / "new" / f"why{suffix}"
    code, _, err = run(capsys, "explain", folder, ROW, "--out", str(out), "--method", "integrated_gradients")
    assert code == 0, err
    content = out.read_bytes()
    assert content.startswith({".html": b"<!doctype html>", ".json": b"{", ".png": b"\x89PNG"}[suffix])
    assert [p.name for p in out.parent.iterdir()] == [out.name]


def test_from_python(folder: str) -> None:
    rows = {"note": ["two blue birds", "今天下雨了", "never again"], "kind": ["a", "b", None]}
    made = onetrunk.explain(folder, rows, ask="label", first=2, quiet=True)
    assert len(made.explanations) == 2 and made.faithfulness is not None and made.faithfulness.rows == 2
    assert onetrunk.explain(folder, rows, quick=True, quiet=True).faithfulness is None
    again = onetrunk.explain(folder, rows, ask="label", first=2, quiet=True)
    assert json.dumps(again.as_json()) == json.dumps(made.as_json())


def test_a_table_of_findings_is_printed(folder: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = tmp_path / "train.jsonl"
    texts = worlds.CASES["text"].values
    lines = [{"note": text, "kind": "ab"[i % 2], "label": "xy"[i % 2]} for i, text in enumerate(texts)]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for method in ("nearest_rows", "counterfactual", "decision_path", "activations"):
        code, _, err = run(capsys, "explain", folder, ROW, "--method", method, "--train", str(rows))
        assert code == 0 and "Row 0" in err, err
    page = tmp_path / "near.html"
    assert (
        run(capsys, "explain", folder, ROW, "--method", "nearest_rows", "--train", str(rows), "--out", str(page))[0]
        == 0
    )
    assert "The nearest training rows" in page.read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--method", "shaply"], "Unknown method of explanation 'shaply'. Did you mean 'shapley'?"),
        (["--method", "nearest_rows"], "--train"),
        (["--target", "z"], "no class of 'label'; expected one of x, y"),
        (["--out", "why.txt"], "--out expects a .html, .json or .png file, found 'why.txt'"),
        (["--first", "0"], "--first expects 1 or more, found 0"),
        (["--ask", "note,label"], "One column's answers are explained at a time"),
        (["--compare", "limes"], "Did you mean 'lime'"),
    ],
)
def test_what_cannot_be_is_a_plain_error(
    folder: str, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    code, out, err = run(capsys, "explain", folder, ROW, *more)
    assert code == 2 and message in " ".join(err.split()) and "Traceback" not in err and not out


def test_rows_that_hold_nothing_that_is_given(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "explain", folder, '{"other": 1}')
    assert code == 3 and "none of the columns to predict from" in err
    code, _, err = run(capsys, "explain", folder, '{"note": null}')
    assert code == 2 and "Nothing is given in row 0" in " ".join(err.split())


def test_a_table_cannot_be_a_picture(folder: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "decision_path", "out": str(tmp_path / "a.png"), "quiet": True}
    with pytest.raises(UsageError, match=r"\.html or \.json"):
        onetrunk.explain(folder, {"note": ["a b"]}, **options)


def test_a_small_network_is_traced_number_by_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "explain", "--trace", "example")
    assert code == 0 and "= 12.4" in err and "= −0.38" in err and "Forward again:" in err
    file = tmp_path / "own.json"
    file.write_text('{"input": [1], "target": [0], "layers": [{"weight": [[2]], "bias": [1]}]}', encoding="utf-8")
    code, out, _ = run(capsys, "explain", "--trace", str(file), "--json")
    assert code == 0 and json.loads(out)["loss"] == 4.5
    code, _, err = run(capsys, "explain", "model", "rows.csv", "--trace", "example")
    assert code == 2 and "leave the model and the rows out" in err
    code, _, err = run(capsys, "explain", "model")
    assert code == 2 and "onetrunk explain MODEL ROWS" in err


def test_rows_are_laid_out_for_tensorboard(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    rows = tmp_path / "rows.csv"
    rows.write_text("note,kind\ntwo blue birds,b\na bird,a\n,b\n", encoding="utf-8")
    board = tmp_path / "board"
    code, _, err = run(capsys, "explain", folder, str(rows), "--first", "1", "--quick", "--board", str(board))
    assert code == 0, err
    (metadata,) = board.rglob("metadata.tsv")
    lines = metadata.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "answer: label\tcertainty\tnote\tkind" and len(lines) == 4 and "two blue birds\tb" in lines[1]
    (tensors,) = board.rglob("tensors.tsv")
    vectors = np.loadtxt(tensors)
    expected = onetrunk.embed(folder, str(rows), quiet=True).vectors
    np.testing.assert_allclose(vectors, expected, rtol=1e-4)
    events = EventAccumulator(str(board), size_guidance={"histograms": 0}).Reload()
    assert {"embedding/note", "states after block"} <= set(events.Tags()["histograms"])
    graph = GraphDef.FromString(events.Graph().SerializeToString())
    names = {node.name for node in graph.node}
    assert any(name.startswith("trunk/layers/0/") for name in names)
    assert all(source in names for node in graph.node for source in node.input)
