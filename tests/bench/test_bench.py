"""The harness of the comparisons, with fakes: what is printed, what is kept, and rivals at their full strength."""

from __future__ import annotations

import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import __main__ as command
from bench import common
from bench.common import Figures, Run
from onetrunk.core.events import ignore

SEVEN = ["adult", "ag_news", "chnsenticorp_hotel", "digits50", "heart_cleveland", "mnist_10k", "tinyshakespeare"]
FIGURES = ["ours", "rival", "difference", "ratio", "unit", "interval", "without_pretraining", "also"]
KEYS = ["name", *FIGURES, "seconds", "split", "machine", "versions", "seed"]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A comparison `fake`, data in tmp_path / data, results in the folder that is returned."""

    def compare(run: Run) -> Figures:
        size = len((run.data() / "rows.txt").read_text().split())
        config, members = run.config({"size": "nano", "ensemble": 2})
        also = {"part": run.split, "size": config.size, "members": members, "rows": size}
        rival = 0.75 if run.rival else None
        return Figures(0.875 + run.seed, [0.8, 0.9], "accuracy", "a coin", rival, {"part": run.split}, 0.5, also)

    module = types.ModuleType("bench.fake")
    module.compare = compare
    monkeypatch.setitem(sys.modules, "bench.fake", module)
    monkeypatch.setattr(common, "comparisons", lambda: {"fake": "A fake, against a coin."})
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(common, "DOCS", tmp_path / "docs" / "benchmarks.md")
    monkeypatch.setattr(common, "ROOT", tmp_path)
    monkeypatch.setenv("ONETRUNK_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "fake").mkdir(parents=True)
    (tmp_path / "data" / "fake" / "rows.txt").write_text("a b c")
    return tmp_path / "results"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert command.main(list(arguments)) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_list_names_every_comparison_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert set(SEVEN) <= {name for name, _ in lines}
    assert all(len(text) > 20 for _, text in lines)


def test_a_plain_run_is_printed_and_kept(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = printed(capsys, "fake", "--seed", "1")
    assert set(KEYS) <= set(output)
    assert (output["name"], output["ours"], output["rival"], output["difference"]) == ("fake", 1.875, 0.75, 1.125)
    assert output["seed"] == 1 and output["also"] == {"part": "test", "size": "nano", "members": 2, "rows": 3}
    assert json.loads((fake / "fake.json").read_text()) == output


@pytest.mark.parametrize("trial", [["--split", "val"], ["--set", "size=tiny"], ["--no-rival"]])
def test_a_trial_is_not_kept(fake: Path, capsys: pytest.CaptureFixture[str], trial: list[str]) -> None:
    output = printed(capsys, "fake", *trial)
    assert not fake.exists()
    assert (output["rival"] is None) == (trial == ["--no-rival"])
    assert output["also"]["part"] == ("val" if "val" in trial else "test")
    assert output["also"]["size"] == ("tiny" if "size=tiny" in trial else "nano")


def test_absent_data_are_said_and_no_failure(fake: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("ONETRUNK_DATA", str(tmp_path / "nowhere"))
    output = printed(capsys, "fake")
    assert set(output) == {"name", "absent"} and "ONETRUNK_DATA" in output["absent"]
    assert not fake.exists()


def test_wrong_names_and_settings_have_exit_code_2(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["fke"]) == 2
    assert "fake" in capsys.readouterr().err  # the nearest name
    assert command.main(["fake", "--set", "ensemble=0"]) == 2
    assert command.main(["fake", "--set", "trian.lr=1"]) == 2
    assert "train" in capsys.readouterr().err


def test_docs_are_made_from_the_results(fake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "fake")
    assert command.main(["--docs"]) == 0
    page = (tmp_path / "docs" / "benchmarks.md").read_text()
    assert "| [fake](#fake) | accuracy | a coin: 0.75 | **0.875** [0.8, 0.9] | +0.1250 | 0.5 |" in page
    assert "A fake, against a coin." in page


def test_classes_are_compared_on_the_same_rows_with_the_baseline_at_full_strength(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    from bench.tables import Rival, compare_classes, gradient_boosting

    dice = np.random.default_rng(0)
    x = dice.normal(size=240)
    y = np.where(x + 0.5 * dice.normal(size=240) > 0, "yes", "no")
    part = np.array(["train"] * 120 + ["val"] * 40 + ["test"] * 80)
    table = {"x": x.tolist(), "colour": ["red", "blue", "green"] * 80, "y": y.tolist(), "split": part.tolist()}
    settings = {
        "trunk": {"width": 16, "layers": 1, "heads": 2},
        "train": {"tensorboard": False},
        "pretrain": {"steps": 2, "objectives": [{"kind": "predict", "documents": 16}]},
        "finetune": {"steps": 2, "documents": 16},
    }
    run = Run("fake", "test", 0, [], True, tmp_path / "run", ignore)
    result = compare_classes(
        run, settings, ask="y", metric="auc", rival=Rival("boosting", gradient_boosting), read=lambda _: table
    )
    # An independent fit: codes of the colours, and x as the number it is.
    features = np.stack([np.array([["blue", "green", "red"].index(c) for c in table["colour"]]), x], axis=1)
    fitted = HistGradientBoostingClassifier(random_state=0).fit(features[part == "train"], y[part == "train"])
    expected = roc_auc_score(y[part == "test"] == "yes", fitted.predict_proba(features[part == "test"])[:, 1])
    assert result.rival == pytest.approx(expected, abs=1e-9)
    assert result.split["rows"] == {"train": 120, "val": 40, "test": 80}
    assert result.interval[0] <= result.ours <= result.interval[1]
    low, high = result.also["difference_interval"]
    assert low <= result.ours - result.rival <= high


def test_speeds_are_medians_of_alternating_processes_and_a_ratio(tmp_path: Path) -> None:
    from bench.speed import alternate, figures

    run = Run("fake", "test", 0, [], True, tmp_path, ignore)
    sides = {"ours": {"call": "builtins:dict", "x": 3.0}, "theirs": {"call": "builtins:dict", "x": 2.0}}
    seconds = alternate(run, sides, 2)
    assert [len(each) for each in seconds.values()] == [2, 2] and seconds["ours"][0]["whole_seconds"] > 0
    assert len({one["place"] for each in seconds.values() for one in each}) == 4
    seconds["ours"][0]["x"] = 5.0
    more = figures(seconds, "x", "tokens/s", faster_is_more=True, split={})
    less = figures(seconds, "x", "seconds", faster_is_more=False, split={})
    assert (more.ours, more.rival, more.rival_name, more.ratio, less.ratio) == (4.0, 2.0, "theirs", 2.0, 0.5)
    assert more.interval == [3.0, 5.0]


def test_a_plan_stands_beside_what_was_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from bench import scale, speed

    def told(run: Run, sides: dict[str, dict[str, Any]], rounds: int) -> dict[str, list[dict[str, float]]]:
        off = 1.1 if sides["planned"]["context"] == 256 else 0.7
        real = {"seconds": 2.0, "peak_gb": 1.0, "mfu": 0.5}
        return {"planned": [{"seconds": 2.0 * off, "peak_gb": 0.9, "mfu": 0.5}], "measured": [real]}

    monkeypatch.setattr(speed, "alternate", told)
    settings = ["widths=[64]", "contexts=[256, 1024]"]
    result = scale.compare(Run("scale", "test", 0, settings, True, tmp_path, ignore))
    assert result.ours == pytest.approx(0.2) and result.interval == pytest.approx([0.1, 0.3])
    assert result.also["worst_errors"] == pytest.approx({"seconds": -0.3, "peak_gb": -0.1})
    point = result.also["width 64, context 256"]
    assert point["tokens_per_s"] == 2048 and point["seconds_planned"] == pytest.approx(2.2)
    points = {(64, context): result.also[f"width 64, context {context}"] for context in (256, 1024)}
    assert scale.picture(points).startswith(b"\x89PNG")


def test_what_is_listed_can_be_run() -> None:
    """A module that comparisons only share is named as such (`bench.common`)."""
    for name in common.comparisons():
        assert callable(importlib.import_module(f"bench.{name}").compare), name
