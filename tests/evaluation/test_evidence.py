"""Evaluation of fake models with known answers; the record on disk; card and report under attack."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from evidence_fakes import PIXEL, Amount, Colour, FakeModel, Picture
from PIL import Image

from onetrunk.core.answer import Answer
from onetrunk.core.encoder import ReadsAnother
from onetrunk.core.errors import DataError, ModelFileError
from onetrunk.evaluation.card import card
from onetrunk.evaluation.gather import gather_evidence
from onetrunk.evaluation.intervals import wilson
from onetrunk.evaluation.record import Evidence, Origin, Sample
from onetrunk.evaluation.report import report
from onetrunk.evaluation.words import amount, headline
from onetrunk.verbs.show import Printer

CLASSES = ["blue", "green", "red"]
EVIL = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>|`](javascript:alert(1))\u202e\x00"
TAGS = "html head meta title style body main section p h1 h2 h3 small span bdi div i b nav a br"
TAGS += " table thead tbody tr th td figure figcaption picture source img dl dt dd ul li"
HISTORY = [{"step": i, "loss": 3 / i, "losses": {"predict/a": 2 / i, "masked/b": 1 / i}} for i in range(1, 9)]
HISTORY += [{"step": i, "validation": {"metric": i / 10, "accuracy": i / 10}} for i in (4, 8)]


def _data(n: int, seed: int) -> dict[str, list]:
    rng = np.random.default_rng(seed)
    hue = rng.choice(CLASSES, n).tolist()
    label = [h if rng.random() < 0.6 else str(rng.choice(CLASSES)) for h in hue]
    return {"hue": hue, "label": label, "hidden": list(label), "size": rng.normal(10, 3, n).tolist()}


def _sure(value: str) -> Answer:
    return Answer(value, {name: 0.98 if name == value else 0.01 for name in CLASSES})


def _oracle() -> FakeModel:
    """Sees `hidden`, which the baselines' features do not offer."""
    sides = {"hue": Colour(CLASSES), "hidden": Picture(), "label": Colour(CLASSES), "size": Amount()}
    return FakeModel(sides, lambda hue, hidden: _sure(hidden))


def _evidence(**options) -> Evidence:
    test = _data(90, 1)
    test["label"][0] = None
    test["hidden"] = [v if i % 10 else CLASSES[(CLASSES.index(v) + 1) % 3] for i, v in enumerate(test["hidden"])]
    return gather_evidence(_oracle(), test, [(["hue", "hidden"], "label")], train=_data(120, 2), **options)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return _evidence(name="shop", histories={"pretraining": HISTORY}, samples=3)


def test_metrics_interval_and_lead(evidence: Evidence) -> None:
    task = evidence.tasks[0]
    assert (task.rows, task.without_truth, task.metric) == (89, 1, "accuracy")
    assert task.metrics["accuracy"] == pytest.approx(81 / 89)
    assert task.score == wilson(81, 89)
    assert [baseline.name for baseline in task.baselines] == ["majority", "logistic", "boosting"]
    best = task.best
    assert best.score.value == max(baseline.score.value for baseline in task.baselines)
    assert best.lead.value == pytest.approx(task.score.value - best.score.value)
    assert best.lead.low < best.lead.value < best.lead.high and best.lead.excludes(0)
    assert headline(task).startswith(f"Better than the strongest simple baseline, {best.name}:")


def test_the_terminal_first_says_how_it_stands(evidence: Evidence, capsys: pytest.CaptureFixture[str]) -> None:
    Printer().evidence(evidence)
    assert capsys.readouterr().err.splitlines()[0] == headline(evidence.tasks[0])


def test_classes_and_samples(evidence: Evidence) -> None:
    task = evidence.tasks[0]
    assert [row["class"] for row in task.classes] == CLASSES
    assert sum(row["rows"] for row in task.classes) == 89
    assert [s.right for s in task.samples] == [True] * 3 + [False] * 3
    assert all((s.truth == s.answer) == s.right for s in task.samples)
    assert task.samples[0].given["hidden"] == {"png": PIXEL}
    assert task.samples[0].confidence == pytest.approx(0.98)


class Found(Colour, ReadsAnother):
    """A colour that is seen in the column `hue`: shown in it."""

    @property
    def on(self) -> str:
        return "hue"

    def show(self, value: str, on: str | None = None) -> dict[str, str]:
        return {"text": f"{value} in {on}"} if on is None or value != "red" else {"png": _png(300)}


def _png(width: int) -> str:
    place = io.BytesIO()
    Image.new("L", (width, 20)).save(place, "PNG")
    return base64.b64encode(place.getvalue()).decode()


def test_what_lies_in_a_given_value_is_shown_in_it_and_large() -> None:
    sides = {"hue": Colour(CLASSES), "label": Found(CLASSES)}
    evidence = gather_evidence(FakeModel(sides, _sure), _data(90, 1), [(["hue"], "label")])
    texts = [s for s in evidence.tasks[0].samples if "text" in s.answer]
    assert texts and all(s.answer["text"] == f"{s.given['hue']['text']} in {s.given['hue']['text']}" for s in texts)
    assert any("png" in s.answer for s in evidence.tasks[0].samples)
    assert 'class="samples large"' in report(evidence)
    small = Sample("Some", {"a": {"png": _png(200)}}, {"png": _png(200)}, {"png": _png(200)})
    evidence.tasks[0].samples = [small]
    assert 'class="samples tight"' in report(evidence)


def test_figures_for_light_and_dark_pages(evidence: Evidence) -> None:
    names = {"curves-pretraining", "validation-pretraining", "comparison-1-label", "answers-1-label"}
    names |= {"reliability-1-label"}
    assert set(evidence.figures) == names | {f"{name}-dark" for name in names}
    assert all(png.startswith(b"\x89PNG") for png in evidence.figures.values())


def test_a_model_like_its_baseline_leads_by_chance_only() -> None:
    sides = {"hue": Colour(CLASSES), "label": Colour(CLASSES)}
    model = FakeModel(sides, _sure)
    task = gather_evidence(model, _data(90, 1), [(["hue"], "label")], train=_data(120, 2)).tasks[0]
    assert not task.best.lead.excludes(0)
    assert headline(task).startswith("Level with the strongest simple baseline")


def test_metrics_that_are_no_mean_are_resampled_and_lower_may_be_better() -> None:
    sides = {"a": Amount(), "b": Amount()}
    rng = np.random.default_rng(0)
    a = rng.normal(size=60)
    test = {"a": a.tolist(), "b": (2 * a + rng.normal(0, 0.1, 60)).tolist()}
    test["b"][7] = "not a number"
    far = FakeModel(sides, lambda a: Answer(0.0, interval=(-1.0, 1.0)))
    task = gather_evidence(far, test, [(["a"], "b")], train={"a": test["a"], "b": test["b"]}).tasks[0]
    assert task.rows == 59 and task.without_truth == 1
    assert task.score.low < task.score.value == task.metrics["rmse"] < task.score.high
    assert task.best.name == "ridge" and task.best.lead.high < 0
    groups = {s.group for s in task.samples}
    assert groups == {"Typical", "Furthest from the truth"}
    worst = next(s for s in task.samples if s.group == "Furthest from the truth")
    truths = [float(v) for i, v in enumerate(test["b"]) if i != 7]
    assert float(worst.truth["text"]) == pytest.approx(max(truths, key=abs), abs=1e-3)
    assert worst.between == [{"text": "-1.0"}, {"text": "1.0"}]


def test_it_is_a_function_of_the_seed(evidence: Evidence) -> None:
    again = _evidence(name="shop", samples=3)
    assert again.tasks[0].best.lead == evidence.tasks[0].best.lead
    assert again.tasks[0].samples == evidence.tasks[0].samples
    assert _evidence(seed=1, samples=3).tasks[0].samples != evidence.tasks[0].samples


def test_no_baselines_without_training_rows() -> None:
    test = _data(30, 1)
    task = gather_evidence(_oracle(), test, [(["hue", "hidden"], "label")]).tasks[0]
    assert task.baselines == [] and "No simple baseline" in headline(task)


def test_nothing_to_judge_by_is_said() -> None:
    test = {"hue": ["red"], "hidden": ["red"], "label": [None]}
    with pytest.raises(DataError, match="No held-out row has a usable value of 'label'"):
        gather_evidence(_oracle(), test, [(["hue", "hidden"], "label")])


# -- the record ----------------------------------------------------------------------------------------------
def test_round_trip(evidence: Evidence, tmp_path: Path) -> None:
    evidence.save(tmp_path)
    assert Evidence.read(tmp_path) == evidence
    data = json.loads((tmp_path / "evidence" / "metrics.json").read_text())
    assert data["tasks"][0]["metrics"]["accuracy"] == evidence.tasks[0].metrics["accuracy"]
    assert "samples" not in data["tasks"][0]


def test_evidence_of_the_first_format_is_read(evidence: Evidence, tmp_path: Path) -> None:
    evidence.save(tmp_path)
    place = tmp_path / "evidence" / "metrics.json"
    data = json.loads(place.read_text())
    for task in data["tasks"]:
        task["rivals"] = task.pop("baselines")  # as the key was called
    place.write_text(json.dumps({**data, "format": 1}))
    assert Evidence.read(tmp_path) == evidence


def test_what_json_cannot_say(evidence: Evidence, tmp_path: Path) -> None:
    odd = Evidence("odd \ud800", evidence.tasks, Origin(seconds={"x": float("nan")}))
    odd.save(tmp_path)
    result = Evidence.read(tmp_path)
    assert result.name == "odd \ud800" and result.origin.seconds == {"x": None}


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"format": 99}', '{"format": 1, "name": "x", "tasks": [{}], "origin": {}}']
)
def test_damaged_or_newer_is_refused(evidence: Evidence, tmp_path: Path, text: str) -> None:
    evidence.save(tmp_path)
    (tmp_path / "evidence" / "metrics.json").write_text(text)
    with pytest.raises(ModelFileError, match="evidence"):
        Evidence.read(tmp_path)
    with pytest.raises(ModelFileError):
        Evidence.read(tmp_path / "nowhere")


# -- card and report -----------------------------------------------------------------------------------------
class _Page(HTMLParser):
    """What a browser would build: tags, their attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def _hostile() -> Evidence:
    classes = [EVIL, "good"]
    p = {EVIL: 0.9, "good": 0.1}
    sides = {EVIL: Colour(classes), "ask" + EVIL: Colour(classes)}
    model = FakeModel(sides, lambda x: Answer(EVIL, p))
    table = {EVIL: [EVIL, None] * 8, "ask" + EVIL: [EVIL, "good"] * 8}
    origin = Origin(
        data=EVIL,
        rows={EVIL: 3},
        columns=[{"name": EVIL, "type": EVIL, "key": EVIL}],
        split=EVIL,
        ledger=[{"column": EVIL, "reason": EVIL, "count": 2, "bad": True, "rows": [1]}],
        seconds={EVIL: 1.0},
        hardware=EVIL,
        versions={EVIL: EVIL},
        made=EVIL,
    )
    history = [{"step": i, "loss": 1.0, "losses": {EVIL: 1.0, "$\\bad$": 2.0}} for i in (1, 2)]
    return gather_evidence(
        model,
        table,
        [([EVIL], "ask" + EVIL)],
        train=table,
        name=EVIL,
        origin=origin,
        histories={EVIL: history},
    )


def test_the_report_escapes_everything() -> None:
    page = _Page(report(_hostile()))
    assert {tag for tag, _ in page.tags} <= set(re.findall(r"\w+", TAGS))
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in ("src", "srcset"):
            assert attributes.get(name, "data:image/png;base64,").startswith("data:image/png;base64,")
        assert attributes.get("href", "#").startswith("#")
    assert page.text.count("<script>alert('x')</script>") > 10  # it is shown, as text
    assert "\x00" not in page.text
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "script" not in policy


def test_a_sample_that_is_no_base64_is_not_a_picture(evidence: Evidence, tmp_path: Path) -> None:
    evidence.save(tmp_path)
    place = tmp_path / "evidence" / "samples.json"
    place.write_text(place.read_text().replace(PIXEL, 'x\\" onerror=alert(1)'))
    page = _Page(report(Evidence.read(tmp_path)))
    assert "not a picture" in page.text
    assert not any("onerror" in attributes for _, attributes in page.tags)


def test_the_report_says_it(evidence: Evidence) -> None:
    page = _Page(report(evidence))
    for part in (
        "91.0 %",
        "Class by class",
        "Wrong, the most confident first",
        "How it learnt",
        headline(evidence.tasks[0]),
    ):
        assert part in page.text
    assert report(evidence).encode("utf-8")


def test_the_card_has_front_matter_and_the_baselines(evidence: Evidence) -> None:
    text = card(evidence, license="apache-2.0")
    _, front, body = text.split("---\n", 2)
    data = yaml.safe_load(front)
    assert data["license"] == "apache-2.0" and data["library_name"] == "onetrunk"
    metric = data["model-index"][0]["results"][0]["metrics"][0]
    assert metric == {"type": "accuracy", "name": "Accuracy", "value": pytest.approx(81 / 89, abs=1e-5)}
    assert "| **this model** | **91.0 %** |" in body
    assert "| logistic |" in body and "points (" in body
    assert 'model = onetrunk.load("shop")' in body and "onetrunk predict shop data.csv" in body


def test_the_card_escapes_everything() -> None:
    text = card(_hostile())
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["model-index"][0]["name"].startswith("<script>")
    prose = "".join(body.split("```")[::2])  # in a code block everything is literal
    assert "<script" not in prose and "<img" not in prose
    assert "](javascript" not in prose.replace("\\]", "")
    assert "\x00" not in text
    for line in prose.splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") == 5  # a table row keeps its four cells


def test_amounts_are_for_people() -> None:
    assert amount("accuracy", 0.98123) == "98.1 %"
    assert amount("auc", 0.98123) == "0.981"
    assert amount("rmse", 1234.5) == "1,234"
    assert amount("rmse", 36.3) == "36.30"
    assert amount("r2", -0.25) == "−0.250"
    assert amount("accuracy", None) == "undefined"
