"""The documents are executed: their commands run on a small table, their flags exist, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import onetrunk
from onetrunk import cli
from onetrunk.verbs import _setup

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").glob("*.md"))]
QUICK = ["--size", "nano", "--set", "pretrain.steps=4", "--set", "finetune.steps=4"]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    found = re.findall(r"^onetrunk .*$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in found]


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `data.csv` of the documents, in the current folder."""
    monkeypatch.chdir(tmp_path)
    lines = ["age,note,label"]
    for i in range(60):
        good = i % 3 == 0
        lines.append(f"{20 + i % 41},{'good and fine' if good else 'bad and poor'} {i},{'yes' if good else 'no'}")
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code in (0, None), words


@pytest.mark.parametrize("name", ["training.md"])
def test_commands_of_a_page_run_in_order(name: str, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = {"train", "pretrain", "finetune"}
    for words in commands(ROOT / "docs" / name):
        run([*words, *(QUICK if words[1] in quick else [])], monkeypatch)
    assert (table / "model" / "evidence" / "report.html").exists()
    assert (table / "answers.csv").read_text().startswith("label,")


def test_inspect_runs_as_documented(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (words,) = commands(ROOT / "docs" / "data.md")
    run(words, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_documented_flag_exists(page: Path) -> None:
    import inspect

    for words in commands(page):
        verb = getattr(onetrunk, words[1])
        flags = {cli._FLAGS.get(p, "--" + p.replace("_", "-")) for p in inspect.signature(verb).parameters} | {"--json"}
        assert {w for w in words if w.startswith("--")} <= flags, words


def test_every_documented_setting_exists() -> None:
    rows = re.findall(r"^\| `(.*?)` \|", (ROOT / "docs" / "training.md").read_text(), re.MULTILINE)
    keys = [key for row in rows for key in row.split("`, `") if "NAME" not in key]
    known = _setup.run_config(None, None).model_dump()
    known["trunk"] = {"kind": None}
    assert len(keys) > 20
    for key in keys:
        place = known
        for part in key.split("."):
            assert part in place, key
            place = place[part]


def test_documented_yaml_is_valid() -> None:
    import yaml

    for block in blocks(ROOT / "docs" / "data.md", "yaml"):
        assert _setup.RunConfig.parse(yaml.safe_load(block)).columns["review"]["type"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_chinese_readme_equals_the_english() -> None:
    english, chinese = (ROOT / name for name in ("README.md", "README.zh-CN.md"))
    assert blocks(english, ".*?") == blocks(chinese, ".*?")
    heads = [re.findall(r"^#+ ", page.read_text(encoding="utf-8"), re.MULTILINE) for page in (english, chinese)]
    assert heads[0] == heads[1]
