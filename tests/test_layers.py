"""The design's floors hold: who imports whom, how long a file is, where a column type is named."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "onetrunk"
MOST_LINES = 500

FLOORS = {
    "core": 0,
    "storage": 1, "media": 1,
    "nn": 2, "data": 2, "engine": 2, "metrics": 2,
    "columns": 3, "objectives": 3,
    "model": 4,
    "inference": 5,
    "explanation": 6, "interop": 6,
    "evaluation": 7,
    "training": 8,
    "serving": 9, "studio": 9,
    "trackers": 9,
    "verbs": 10,
    "sklearn.py": 11, "cli.py": 11, "__init__.py": 11, "__main__.py": 11,
}  # fmt: skip

TOP = FLOORS["cli.py"]  # the doors

# Folders that are one thing. In the others each file stands alone; they share what begins with an underscore.
WHOLE = {
    "core", "storage", "media", "nn", "data", "engine", "metrics", "objectives", "model", "inference", "evaluation",
    "training", "serving", "studio", "trackers", "verbs", "interop", "explanation",
}  # fmt: skip

# (file, what it imports all the same): why.
MAY_IMPORT: dict[tuple[str, str], str] = {}

# (file, literal): why it is not a column type's name there.
NOT_A_TYPE = {
    ("sklearn.py", "category"): "what classification asks for, and a dtype of pandas",
    ("sklearn.py", "number"): "what regression asks for, and what numeric dtypes hold",
    ("core/encoder.py", "text"): "a key of Encoder.show",
    ("columns/audio/encoder.py", "text"): "a key of Encoder.show",
    ("media/video.py", "video"): "the name of an extra",
    ("columns/families/history/encoder.py", "text"): "a key of Encoder.show",
    ("columns/molecule/encoder.py", "text"): "a key of Encoder.show",
    ("columns/series/encoder.py", "text"): "a key of Encoder.show",
    ("columns/video/encoder.py", "text"): "a key of Encoder.show",
    ("interop/huggingface/decoders.py", "text"): "what a family's trunk reads",
    ("interop/huggingface/encoders.py", "text"): "what a family's trunk reads",
    ("interop/huggingface/towers.py", "text"): "what a family's trunk reads",
    ("interop/huggingface/towers.py", "image"): "what a family's trunk reads",
    ("interop/huggingface/towers.py", "audio"): "what a family's trunk reads",
    ("columns/image/encoder.py", "text"): "a key of Encoder.show",
    ("evaluation/gather.py", "text"): "a key of Encoder.show",
    ("explanation/question.py", "text"): "a key of Encoder.show",
    ("columns/boxes/drawing.py", "text"): "a key of Encoder.show",
    ("columns/boxes/encoder.py", "image"): "the usual name of the column that boxes are read on",
    ("data/readers/detection.py", "image"): "the name of a column, and the word for pictures of MIME",
    ("data/readers/detection.py", "boxes"): "the name of a column",
    ("data/inspection.py", "text"): "a key of Encoder.show",
    ("evaluation/likelihood.py", "text"): "a key of Encoder.show",
    ("interop/huggingface/families.py", "text"): "what a family's trunk reads",
    ("interop/keras.py", "text"): "the column that it reads",
    ("interop/keras.py", "category"): "the type that it answers",
    ("interop/huggingface/families.py", "image"): "what a family's trunk reads",
    ("training/digits.py", "image"): "the name of the demo's own column",
    ("training/demo.py", "image"): "the name of the demo's own column",
    ("training/dry_run.py", "text"): "the column of a plan without data",
    ("serving/decisions_route.py", "text"): "a key of OpenAI's parts of messages",
    ("serving/decisions_route.py", "image"): "the word for pictures of MIME",
    ("serving/media_route.py", "audio"): "the word for sounds of MIME",
    ("serving/media_route.py", "image"): "the word for pictures of MIME",
    ("serving/media_route.py", "text"): "a key of OpenAI's transcriptions",
    ("serving/structured_output.py", "text"): "a type of OpenAI's response_format",
    ("serving/systemone_route.py", "image"): "the word for pictures of System One",
    ("serving/text_forms.py", "text"): "a key of OpenAI's completions",
    ("training/stage.py", "date"): "a key of provenance.json",
    ("evaluation/documents.py", "date"): "a key of provenance.json",
} | {
    ("evaluation/chinese_names.py", kind): "what Chinese calls it"
    for kind in (
        "audio", "boxes", "category", "date", "image", "items", "molecule", "number", "series", "text", "trace",
        "video",
    )
}  # fmt: skip


def files(root: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(root.rglob("*.py")):
        yield path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module, name: str, root: Path) -> Iterator[tuple[int, str]]:
    """Lines and files of the package that a file imports, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, name)
            # A name is a module of its own, or stands in the one it is imported from. The version alone stands in
            # the package itself, which every import runs anyway.
            names = [a.name for a in node.names if (base, a.name) != ("onetrunk", "__version__")]
            found = [f"{base}.{n}" if _file(f"{base}.{n}", root) else base for n in names]
        else:
            continue
        for module in found:
            if module.partition(".")[0] == "onetrunk":
                yield node.lineno, _file(module, root) or module


def _absolute(node: ast.ImportFrom, name: str) -> str:
    if not node.level:
        return node.module or ""
    package = ["onetrunk", *Path(name).parts[:-1]]
    return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])


def _file(module: str, root: Path) -> str | None:
    place = Path(*module.split(".")[1:])
    for candidate in (place / "__init__.py", place.with_suffix(".py") if place.name else place):
        if (root / candidate).is_file():
            return candidate.as_posix()
    return None


def floor(name: str) -> int:
    return FLOORS[name.partition("/")[0]]


def wrong_imports(root: Path, allowed: Collection[tuple[str, str]] = MAY_IMPORT) -> list[str]:
    return [f"{name}:{line} imports {target}" for name, line, target in _upward(root) if (name, target) not in allowed]


def _upward(root: Path) -> Iterator[tuple[str, int, str]]:
    """File, line and what it imports from a floor that is not lower."""
    for name, tree in files(root):
        for line, target in imports(tree, name, root):
            folder, other = name.partition("/")[0], target.partition("/")[0]
            private = target.rpartition("/")[2].startswith("_")
            same = folder == other and "/" in name and (folder in WHOLE or private)
            same = same or floor(name) == floor(target) == TOP or _of_one_type(name, target)
            if not same and floor(target) >= floor(name):
                yield name, line, target


def _of_one_type(name: str, target: str) -> bool:
    """A column type is a folder of its own, and may use what types share."""
    folders, others = name.split("/")[:-1], target.split("/")[:-1]
    shared = ["columns", "families"]
    return folders[:1] == others[:1] == ["columns"] and (others[:2] == shared or folders == others != ["columns"])


def _own(name: str) -> str:
    """The column type that a file of `columns/` is part of."""
    return Path(name).parts[1] if len(Path(name).parts) > 2 else Path(name).stem


def named_types(root: Path, allowed: Collection[tuple[str, str]] = NOT_A_TYPE) -> list[str]:
    return [f"{name}:{line} {kind!r}" for name, line, kind in _types_named(root) if (name, kind) not in allowed]


def _types_named(root: Path) -> Iterator[tuple[str, int, str]]:
    """File, line and literal that is a column type's name, outside that type."""
    inside = (root / "columns").iterdir()
    types = {p.stem for p in inside if not p.name.startswith("_") and p.stem != "families"}
    for name, tree in files(root):
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in types:
                own = name.startswith("columns/") and _own(name) == node.value
                yield from () if own else [(name, node.lineno, node.value)]


def private_imports(place: Path, package: str | None) -> list[str]:
    """Names that begin with an underscore and are imported from another package of onetrunk; with `package`, the files
    lie inside of it."""
    wrong = []
    for name, tree in files(place):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found = [f"{_absolute(node, name)}.{alias.name}" for alias in node.names]
            else:
                continue
            for full in found:
                top, *parts = full.split(".")
                hidden = any(part.startswith("_") and not part.startswith("__") for part in parts)
                at_home = package is not None and parts[:1] == [Path(name).parts[0].removesuffix(".py")]
                if top == "onetrunk" and hidden and not at_home:
                    wrong.append(f"{name}:{node.lineno} imports {full}")
    return wrong


def long_files(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)}: {lines} lines"
        for path in sorted(root.rglob("*.py"))
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    ]


def test_every_file_has_a_floor() -> None:
    assert {name.partition("/")[0] for name, _ in files(ROOT)} <= FLOORS.keys()


def test_a_file_imports_only_from_lower_floors() -> None:
    assert wrong_imports(ROOT) == []


def test_a_column_type_is_named_in_its_own_file_only() -> None:
    assert named_types(ROOT) == []


def test_no_file_is_long() -> None:
    assert long_files(ROOT) == []


def test_nobody_imports_what_another_package_keeps_to_itself() -> None:
    assert private_imports(ROOT, "onetrunk") == []
    outside = ROOT.parents[1]
    assert private_imports(outside / "bench", None) == []
    assert private_imports(outside / "tests", None) == []


def test_no_exception_outlives_its_reason() -> None:
    assert unneeded(ROOT, NOT_A_TYPE, MAY_IMPORT) == []


def unneeded(
    root: Path, not_a_type: Collection[tuple[str, str]], may_import: Collection[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Exceptions without which nothing would be found."""
    types = {(name, kind) for name, _, kind in _types_named(root)}
    upward = {(name, target) for name, _, target in _upward(root)}
    return sorted((set(not_a_type) - types) | (set(may_import) - upward))


def test_an_exception_without_a_reason_is_found(tmp_path: Path) -> None:
    _plant(tmp_path, "nn/a.py", 'x = "text"\nfrom onetrunk.data import pack')
    types, upward = {("nn/a.py", "text")}, {("nn/a.py", "data/pack.py")}
    assert unneeded(tmp_path, types, upward) == []
    _plant(tmp_path, "nn/a.py", '"""Mentions text."""\nfrom onetrunk.core import x')
    assert unneeded(tmp_path, types, upward) == sorted(types | upward)
    (tmp_path / "columns" / "text.py").unlink()  # a literal that is no longer a type's name
    _plant_only(tmp_path, "nn/a.py", 'x = "text"')
    assert unneeded(tmp_path, types, ()) == [("nn/a.py", "text")]


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("nn/a.py", "from onetrunk.columns._scalar import x", "nn/a.py:1 imports onetrunk.columns._scalar.x"),
        ("nn/a.py", "from onetrunk.data.pack import _x", "nn/a.py:1 imports onetrunk.data.pack._x"),
        ("nn/a.py", "import onetrunk.columns._scalar", "nn/a.py:1 imports onetrunk.columns._scalar"),
        ("nn/a.py", "from onetrunk.columns import _scalar", "nn/a.py:1 imports onetrunk.columns._scalar"),
        ("nn/a.py", "from onetrunk.nn._b import _x\nfrom onetrunk import __version__", None),
        ("cli.py", "from onetrunk.verbs import _x", "cli.py:1 imports onetrunk.verbs._x"),
    ],
)
def test_a_planted_private_import_is_found(tmp_path: Path, name: str, source: str, found: str | None) -> None:
    _plant(tmp_path, name, source)
    assert private_imports(tmp_path, "onetrunk") == ([found] if found else [])


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("core/a.py", "import onetrunk.nn.trunk", "core/a.py:1 imports nn/trunk.py"),
        ("core/a.py", "def f():\n    from onetrunk.nn import trunk", "core/a.py:2 imports nn/trunk.py"),
        ("nn/a.py", "from onetrunk.data.pack import x", "nn/a.py:1 imports data/pack.py"),
        ("nn/a.py", "from ..data import pack", "nn/a.py:1 imports data/pack.py"),
        ("columns/a.py", "from onetrunk.columns.text import x", "columns/a.py:1 imports columns/text.py"),
        ("columns/a.py", "from .text import x", "columns/a.py:1 imports columns/text.py"),
        ("verbs/a.py", "import onetrunk", "verbs/a.py:1 imports __init__.py"),
        ("verbs/a.py", "from onetrunk import load", "verbs/a.py:1 imports __init__.py"),
        ("model/a.py", "import x\nif TYPE_CHECKING:\n    from onetrunk.inference.use import y",
         "model/a.py:3 imports inference/use.py"),
    ],
)  # fmt: skip
def test_a_planted_import_is_found(tmp_path: Path, name: str, source: str, found: str) -> None:
    _plant(tmp_path, name, source)
    assert wrong_imports(tmp_path) == [found]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("nn/a.py", "from onetrunk.nn.trunk import x\nfrom . import trunk\nimport torch"),
        ("columns/a.py", "from onetrunk.columns._scalar import x\nfrom onetrunk.nn import trunk"),
        ("verbs/a.py", "from onetrunk import __version__\nfrom onetrunk.inference.use import x"),
    ],
)
def test_a_proper_import_passes(tmp_path: Path, name: str, source: str) -> None:
    _plant(tmp_path, name, source)
    assert wrong_imports(tmp_path) == []


def test_a_planted_type_and_a_planted_long_file_are_found(tmp_path: Path) -> None:
    _plant(tmp_path, "nn/a.py", 'if kind == "text":\n    pass')
    assert named_types(tmp_path) == ["nn/a.py:1 'text'"]
    _plant(tmp_path, "nn/a.py", '"""Reads text."""')
    assert named_types(tmp_path) == []
    _plant(tmp_path, "nn/a.py", "x = 1\n" * (MOST_LINES + 1))
    assert long_files(tmp_path) == [f"nn/a.py: {MOST_LINES + 1} lines"]


def _plant_only(root: Path, name: str, source: str) -> None:
    (root / name).write_text(source, encoding="utf-8")


def _plant(root: Path, name: str, source: str) -> None:
    for stands in ("__init__.py", "nn/trunk.py", "data/pack.py", "columns/text.py", "columns/_scalar.py",
                   "inference/use.py", "core/__init__.py"):  # fmt: skip
        (root / stands).parent.mkdir(parents=True, exist_ok=True)
        (root / stands).touch()
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(source, encoding="utf-8")
