"""The documents are executed: what a reader can type or paste works as it stands.

Blocks marked `bash` and `python` are run, in order, in one folder a page that holds the tables below (training takes a
few steps of the smallest model and grows few trees; nothing else is changed). A `python` block whose first line is a
comment with a path under src/onetrunk is that file: it is added to the package for the rest of the page. Blocks marked
`sh` are only read: their verbs, flags, settings and make targets must exist. `yaml` blocks must be valid
configurations.
"""

from __future__ import annotations

import csv
import importlib
import inspect
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import typer
import yaml
from PIL import Image

import onetrunk
from onetrunk import cli
from onetrunk.core.config import parse_yaml
from onetrunk.core.encoder import Encoder
from onetrunk.core.evaluation import Evaluation
from onetrunk.core.module import ColumnModule
from onetrunk.core.objective import Objective
from onetrunk.core.registry import column_types, objectives
from onetrunk.engine.optim import OptimConfig
from onetrunk.nn.trunk import TRUNKS
from onetrunk.training.recipe import SIZES, Recipe, make_recipe

ROOT = Path(__file__).parents[1]
README, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
EVERY = [*PAGES, CHINESE]
QUICK = ["size=nano", "finetune.steps=3", "finetune.folds=2", "train.tensorboard=false"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Commands of a reader that are not ours to check.
NO_VERB = {"git", "cd", "pip", "make", "tensorboard", "curl", "docker", "kubectl", "cat", "sbatch"}


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks, in order."""
    return [(m[1], m[2]) for m in FENCE.finditer(read(page)) if m[1] in languages]


def commands(block: str) -> list[list[str]]:
    """The words of each command; a line that ends in a backslash goes on."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def names(pages: list[Path]) -> Any:
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.name)


# -- the reader's folder -------------------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hotel stays, as a table, with other names, and with one more class; photographs; runs of some distance;
    recordings; films."""
    monkeypatch.chdir(tmp_path)
    dice = np.random.default_rng(0)
    words = {"good": ["warm", "clean", "quiet", "lovely", "fine"], "bad": ["cold", "dirty", "noisy", "broken", "dull"]}
    stays = []
    for i in range(240):
        label = "good" if dice.random() < 0.5 else "bad"
        one, two = dice.choice(words[label], 2)
        nights = int(dice.integers(1, 15))
        price = "" if dice.random() < 0.05 else f"{80 * nights + 20 * dice.random():.2f}"
        day = f"2024-{dice.integers(1, 13):02}-{dice.integers(1, 29):02}"
        review = f"The room was {one}, stay {i} {two}."
        stays.append([i, f"guest {dice.integers(60)}", review, nights, price, day, label])
    head = ["id", "guest", "review", "nights", "price", "arrived", "label"]
    write(tmp_path / "data.csv", head, stays)
    write(tmp_path / "train.csv", head, stays[:180])
    write(tmp_path / "test.csv", head, stays[180:])
    write(tmp_path / "new_rows.csv", head[2:6], [stay[2:6] for stay in stays[:5]])
    others = [[*stay[2:6], "so-so" if stay[3] > 12 else stay[6]] for stay in stays]
    write(tmp_path / "other.csv", ["text", "nights", "price", "arrived", "label"], others)
    write(tmp_path / "weighted.csv", [*head[2:], "weight"], [[*stay[2:], 1 + stay[3] % 3] for stay in stays])
    write(tmp_path / "runs.csv", ["km", "time"], [[k / 10, f"0:{k // 4:02}:{k % 60:02}"] for k in range(30, 230)])
    with (tmp_path / "chats.jsonl").open("w") as file:
        for i in range(40):
            turns = [("user", f"Is room {i} warm?"), ("assistant", f"Room {i} is {'warm' if i % 2 else 'cold'}.")]
            json.dump({"messages": [{"role": role, "content": content} for role, content in turns]}, file)
            file.write("\n")
    for label, level in (("cat", 60), ("dog", 190)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(15):
            pixels = dice.integers(level - 40, level + 40, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{i}.png")
    recordings(tmp_path)
    films(tmp_path)
    (tmp_path / "settings.yaml").write_text("columns:\n  review: {length: 64}\ntrain: {lr: 1.0e-3}\n")
    return tmp_path


def recordings(place: Path) -> None:
    """Digits "spoken" by ten voices: a tone each, a little higher or lower."""
    (place / "recordings").mkdir()
    for voice, name in enumerate(["ann", "bob", "cai", "dai", "eve", "fay", "gus", "hal", "ida", "jon"]):
        for digit in range(10):
            tone = 0.4 * np.sin(2 * np.pi * (300 + 200 * digit) * (1 + 0.01 * voice) * np.arange(1600) / 8000)
            soundfile.write(place / "recordings" / f"{digit}_{name}_0.wav", tone, 8000)


def films(place: Path) -> None:
    """Light and dark ones; every fourth has no sound."""
    (place / "films").mkdir()
    rows = []
    for i in range(16):
        rows.append([f"films/{i}.mp4", f"films/{i}.mp4", ("gay", "grave")[i % 2]])
        frames = np.full((4, 16, 16, 3), (200, 60)[i % 2] + i, dtype=np.uint8)
        with av.open(place / rows[-1][0], "w") as out:
            pictures = out.add_stream("mpeg4", rate=8)
            pictures.width = pictures.height = 16
            heard = out.add_stream("aac", rate=8000, layout="mono") if i % 4 else None
            for frame in frames:
                out.mux(pictures.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            out.mux(pictures.encode(None))
            if heard is not None:
                tone = np.sin(np.arange(4096) * (0.2 + 0.3 * (i % 2)), dtype=np.float32)[None] / 2
                samples = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
                samples.sample_rate, samples.pts = 8000, 0
                out.mux(heard.encode(samples))
                out.mux(heard.encode(None))
    write(place / "films.csv", ["film", "sound", "mood"], rows)


def write(path: Path, head: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training verbs take a few steps of the smallest model, and grow few trees, whatever else they are told."""
    asked = make_recipe

    def few_steps(config: Any, settings: Any, **flags: Any) -> Any:
        recipe = asked(config, [*(settings or []), *QUICK], **flags)
        short = recipe.model_copy(update={"pretrain": recipe.pretrain.model_copy(update={"steps": 3})})
        if "pretrain" not in recipe.model_fields_set:  # `train` pretrains where a setting says how: none does here
            short.model_fields_set.discard("pretrain")
        return short

    monkeypatch.setattr("onetrunk.training.recipe.make_recipe", few_steps)
    for trees in ("onetrunk.training.wide.trees", "onetrunk.columns.families.baselines.boosting"):
        monkeypatch.setattr(f"{trees}._ROUNDS", 20)


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Adds a file to the package; it is gone after the test."""
    planted = []

    def add(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        package = importlib.import_module(".".join(["onetrunk", *Path(name).parts[:-1]]))
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(path.parent)])
        importlib.invalidate_caches()
        planted.append(f"{package.__name__}.{path.stem}")
        if path.parent.name == "verbs":
            verbs = (*onetrunk.VERBS, path.stem)  # as the page says: its name in VERBS
            monkeypatch.setattr(onetrunk, "VERBS", verbs)
            monkeypatch.setattr(cli, "VERBS", verbs)

    yield add
    for module in planted:
        sys.modules.pop(module, None)


@names([page for page in PAGES if blocks(page, "bash", "python")])
def test_what_a_page_says_runs(
    page: Path, folder: Path, quick: None, plant: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    namespace: dict[str, Any] = {"__name__": page.name}
    for language, text in blocks(page, "bash", "python"):
        file = re.match(r"# src/onetrunk/((?:\w+/)+\w+\.py)\n", text)
        if file:
            plant(file[1], text)
        elif language == "python":
            exec(compile(text, page.name, "exec"), namespace)
        else:
            for words in commands(text):
                assert words[0] == "onetrunk", f"a block to run holds {words[0]}: mark it sh"
                monkeypatch.setattr(sys, "argv", words)
                capsys.readouterr()
                with pytest.raises(SystemExit) as end:
                    cli.main()
                assert end.value.code in (0, None), shlex.join(words)
                printed = capsys.readouterr().out
                if "--json" in words:
                    assert printed and all(isinstance(json.loads(x), dict) for x in printed.strip().split("\n")), words
    for _, text in blocks(page, "text"):  # what is said to be in a model folder is there
        if text.startswith("model/\n"):
            firsts = [re.split(" {3,}", line.strip())[0] for line in text.splitlines()[1:]]
            first_names = [name for first in firsts for name in first.split()]
            assert first_names and all((folder / "model" / name).exists() for name in first_names)


# -- what is only read ---------------------------------------------------------------------------------------
@names(EVERY)
def test_commands_flags_and_targets_exist(page: Path) -> None:
    verbs = typer.main.get_command(cli._app()).commands
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for language, text in blocks(page, "bash", "sh"):
        for words in commands(text):
            words = words[words.index("onetrunk") :] if words[0] == "torchrun" else words
            if words[0] == "onetrunk" and words[1] in onetrunk.VERBS:
                context = verbs[words[1]].make_context(words[1], words[2:])  # raises where a flag is not there
                make_recipe(None, context.params.get("settings"))
            elif words[0] == "make":
                assert set(words[1:]) <= set(targets), words
            elif words[:3] != ["python", "-m", "bench"]:
                assert words[0] in NO_VERB or language == "bash", words
    flags = {o for verb in verbs.values() for p in verb.params for o in p.opts} | {"--version", "--help"}
    inline = re.sub(FENCE, "", read(page))
    message = {word for code in re.findall(r"`([^`]+)`", inline) for word in re.findall(r"(?<!\S)--[a-z0-9-]+", code)}
    assert message <= flags | {"--list", "--docs", "--max-restarts"}  # the last three: of bench, and of torchrun


@names(EVERY)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", re.sub(r"`[^`\n]*`", "", read(page))):  # in code there are no links
        if not target.startswith("http"):
            file, _, anchor = target.partition("#")
            other = page.parent / file if file else page
            assert other.exists(), target
            assert not anchor or anchor in slugs(other), target


def slugs(page: Path) -> list[str]:
    """Headings as the anchors that GitHub makes of them."""
    heads = re.findall(r"^#+ (.*)$", re.sub(FENCE, "", read(page)), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads]


def test_the_readmes_are_twins() -> None:
    visible = ("bash", "sh", "python", "yaml")
    assert blocks(README, *visible) == blocks(CHINESE, *visible)
    heads = [re.findall(r"^#+ ", re.sub(FENCE, "", read(page)), re.MULTILINE) for page in (README, CHINESE)]
    assert heads[0] == heads[1]
    rows = [len(re.findall(r"^\|", read(page), re.MULTILINE)) for page in (README, CHINESE)]
    assert rows[0] == rows[1]


@names(sorted((ROOT / "docs").glob("*.zh-CN.md")))
def test_a_page_of_two_languages_has_the_same_code(page: Path) -> None:
    twin = page.with_name(page.name.replace(".zh-CN", ""))
    assert blocks(page, "bash", "sh", "python", "py", "yaml") == blocks(twin, "bash", "sh", "python", "py", "yaml")
    for pattern in (r"^#+ ", r"^\|"):
        counts = [len(re.findall(pattern, re.sub(FENCE, "", read(each)), re.MULTILINE)) for each in (page, twin)]
        assert counts[0] == counts[1]


def test_jobs_for_clusters_give_commands_that_there_are() -> None:
    verbs = typer.main.get_command(cli._app()).commands
    slurm = (ROOT / "deploy" / "train.slurm").read_text().replace("\\\n", " ")
    (line,) = [line for line in slurm.splitlines() if line.startswith("srun torchrun")]
    job = next(yaml.safe_load_all((ROOT / "deploy" / "pytorchjob.yaml").read_text()))
    (container,) = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"]
    for words in (shlex.split(line), [*container["command"], *container["args"]]):
        verb, *arguments = words[words.index("onetrunk") + 1 :]
        context = verbs[verb].make_context(verb, arguments)
        make_recipe(None, [*context.params["settings"]])
    assert "--nproc-per-node=8" in line and job["spec"]["nprocPerNode"] == "8"


# -- tables and settings -------------------------------------------------------------------------------------
def table_rows(page: Path, heading: str) -> list[list[str]]:
    """Cells of the table rows below a heading, up to the next."""
    section = re.split(r"^#+ ", read(page), flags=re.MULTILINE)
    (result,) = [part for part in section if part.partition("\n")[0] == heading]
    return [[c.strip() for c in line.strip("|").split("|")] for line in result.splitlines() if line.startswith("| ")]


@names([README, CHINESE])
def test_every_column_type_is_named(page: Path) -> None:
    rows = [line for line in read(page).splitlines() if re.match(r"\| `\w+` \|", line)]
    assert sorted(re.match(r"\| `(\w+)`", row)[1] for row in rows) == column_types.names()


@pytest.mark.parametrize("kind", column_types.names())
def test_options_of_a_column_and_their_defaults(kind: str) -> None:
    """A default that is found in the data has no code marks."""
    options = column_types.get(kind).encoder.Options.model_fields
    result = {row[0].strip("`"): row[1] for row in table_rows(ROOT / "docs" / "columns.md", kind)[1:]}
    assert result.keys() == options.keys()
    for name, field in options.items():
        message, default = result[name], field.get_default(call_default_factory=True)
        assert (parse_yaml(message.strip("`"), "a page") if message.startswith("`") else None) == default, (
            f"{name}: {message}"
        )


@names(EVERY)
def test_configurations_are_valid(page: Path) -> None:
    for _, text in blocks(page, "yaml"):
        options, config = parse_yaml(text, "a page"), Recipe.parse(parse_yaml(text, "a page"))
        assert options.keys() <= config.model_fields_set


def test_the_reference_names_every_key_and_its_default() -> None:
    (text,) = [text for _, text in blocks(ROOT / "docs" / "training.md", "yaml") if text.startswith("# every key")]
    assert flat(parse_yaml(text, "a page")) == flat(Recipe().model_dump(mode="json"))


def flat(data: Any, place: str = "") -> dict[str, Any]:
    if isinstance(data, dict) and data:
        return {k: v for name, inner in data.items() for k, v in flat(inner, f"{place}.{name}").items()}
    if isinstance(data, list) and data and isinstance(data[0], dict):  # of objectives: kind, weight, documents
        data = [{k: v for k, v in {"weight": 1.0, **item}.items() if v not in (None, {})} for item in data]
    return {place: data}


def test_closed_sets_are_named_whole() -> None:
    training = read(ROOT / "docs" / "training.md")
    optimizers = inspect.get_annotations(OptimConfig, eval_str=True)["optimizer"].__args__
    for name in (*optimizers, *TRUNKS, *SIZES, *objectives.names()):
        assert f"`{name}`" in training, name
    sizes = [row[:4] for row in table_rows(ROOT / "docs" / "training.md", "Sizes")[1:]]
    assert sizes == [[f"`{size}`", *map(str, shape.values())] for size, shape in SIZES.items()]


@pytest.mark.parametrize(
    ("heading", "owner"),
    [("An encoder", Encoder), ("A module", ColumnModule), ("An evaluation", Evaluation), ("An objective", Objective)],
)
def test_the_contract_is_documented_with_its_signatures(heading: str, owner: type) -> None:
    cells = [row[0] for row in table_rows(ROOT / "docs" / "architecture.md", heading)]
    written = re.findall(r"`(\w+)\(([^)`]*)\)`", "\n".join(cells))
    for name, arguments in written:
        real = [p for p in inspect.signature(getattr(owner, name)).parameters if p not in ("self", "cls")]
        assert re.findall(r"(\w+)(?:=\w+)?", arguments) == real, name
    public = {name for name in vars(owner) if inspect.isroutine(getattr(owner, name)) and not name.startswith("_")}
    assert {name for name, _ in written} == public
