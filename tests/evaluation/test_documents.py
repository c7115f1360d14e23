"""Drafts of documents: all that a folder knows stands in them, and all that a person must write."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import worlds

import onetrunk
from onetrunk.core.errors import UsageError
from onetrunk.evaluation.audit.record import Audit, Finding, Security
from onetrunk.evaluation.document_forms import FORMS
from onetrunk.evaluation.documents import FACTS, document
from onetrunk.inference.model_folder import Model, Task, load
from onetrunk.storage import atomic

GOLDEN = Path(__file__).parents[1] / "golden" / "format-2" / "table"
HAN = re.compile("[\u4e00-\u9fff]")


STAGE: dict[str, Any] = {
    "stage": "finetune",
    "source": "stays.csv",
    "rows": {"train": 1111, "val": 222, "test": 333},
    "split": {"how": "stratified by label"},
    "given": ["review"],
    "ask": ["label"],
    "left_out": {"guest": "an id"},
    "ledger": [{"column": "nights", "reason": "cut *short*", "count": 1234, "rows": []}],
    "config": {"size": "nano", "gates": {}},
    "seed": 7,
    "steps": 4321,
    "tokens": 98765,
    "seconds": 61.0,
    "onetrunk": "0.1.0",
    "torch": "2.99",
    "machine": "x86_64, threads: 2",
    "date": "2026-11-29",
}


@pytest.fixture
def model() -> Model:
    model = load(GOLDEN, device="cpu")
    model.provenance = {"stages": [STAGE], "decision": {"kept": "fine-tuned"}}
    return model


@pytest.mark.parametrize("kind", FORMS)
def test_every_section_has_what_is_known_or_what_a_person_must_write(kind: str, model: Model) -> None:
    text = document(kind, model)
    form = FORMS[kind]
    sections = dict(re.findall(r"^## (.+)\n\n((?:(?!^## ).*\n)*)", text, re.MULTILINE))
    assert list(sections) == [section.title for section in form.sections]
    for section in form.sections:
        for item in section.to_write:
            assert f"- [ ] {item}" in sections[section.title]
        if section.known:
            assert "\n- " in f"\n{sections[section.title]}" or form.nothing_known in sections[section.title]
        assert set(section.known) <= FACTS.keys()
    assert bool(HAN.search(form.must_write)) == (form.language == "zh")


@pytest.mark.parametrize("kind", FORMS)
def test_what_provenance_and_ledger_know_stands_there(kind: str, model: Model) -> None:
    text = document(kind, model)
    parameters = sum(p.numel() for p in model.network.parameters())
    facts = [f"{parameters:,}", "torch 2.99", "stays.csv", "stratified by label", "nights: 1,234 × cut \\*short\\*"]
    facts += [
        "guest: an id",
        "steps 4,321, tokens 98,765",
        "seed 7",
        "x86\\_64, threads: 2" if FORMS[kind].language == "en" else "x86\\_64，线程数：2",
        "2026-11-29",
        "fine-tuned",
    ]
    assert [fact for fact in facts if fact not in text] == []
    for column in model.columns.values():
        assert f"{column.name} ({column.type})" in text
    assert all(f" {count:,}" in text for count in STAGE["rows"].values())


@pytest.mark.parametrize("kind", FORMS)
def test_no_form_asks_for_facts_in_vain(kind: str) -> None:
    used = [name for section in FORMS[kind].sections for name in section.known]
    assert len(FORMS[kind].sections) >= 10
    assert not set(FACTS) - set(used) - {"limits", "marking"}, "every fact has its place"


def test_what_an_audit_found_stands_there(model: Model) -> None:
    audit = Audit("model", ["security"], security=Security(3, 100, 3, [Finding("a.py", "code, by its name")]))
    assert "a.py" not in document("eu-annex-iv", model)
    assert "a.py" in document("eu-annex-iv", model, audit).partition("2 (h) Cybersecurity")[2].partition("## 3.")[0]


def test_what_writes_is_said_to_be_marked() -> None:
    writer = worlds.model({"title": worlds._SENTENCES}, {"title": "text"}, options={"title": {"length": 64}})
    assert "trainedAlgorithmicMedia" not in document("cn-filing", writer)
    writer.tasks = [Task([], ["title"])]
    assert "GB 45438-2025, IPTC trainedAlgorithmicMedia: title" in document("cn-filing", writer)


def test_the_verb_leaves_it_beside_the_audit(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN, tmp_path / "model"))
    onetrunk.audit(str(folder), document="cn-filing", quiet=True)
    text = (folder / "evidence" / "cn-filing.md").read_text(encoding="utf-8")
    assert text.startswith("# 备案材料草稿：model") and "必须由人填写" in text
    atomic.verify(folder)
    with pytest.raises(UsageError, match=r"Unknown document 'eu-annex-v'\. Did you mean 'eu-annex-iv'"):
        onetrunk.audit(str(tmp_path / "nothing"), document="eu-annex-v", quiet=True)
