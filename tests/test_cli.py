"""The command line as a person meets it: bad input gets one plain message and the right exit code."""

from __future__ import annotations

import base64
import errno
import importlib.metadata
import inspect
import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch
import typer
from PIL import Image

import onetrunk
from onetrunk import cli
from onetrunk.training.import_export import FORMATS
from onetrunk.verbs.doctor import PURPOSES

QUICK = ["--size", "nano", "--set", "pretrain.steps=3", "--set", "finetune.steps=3"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data.csv and a trained model."""
    folder = tmp_path_factory.mktemp("cli")
    lines = ["age,note,label"]
    for i in range(80):
        lines.append(f"{20 + i % 41},{'good' if i % 3 else 'bad'} room {i},{'yes' if i % 3 else 'no'}")
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    onetrunk.train(
        str(folder / "data.csv"), ask=["label"], out=str(folder / "model"), size="nano", quiet=True,
        settings=["pretrain.steps=3", "finetune.steps=3", "train.tensorboard=false"],
    )  # fmt: skip
    return folder


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and error of a command."""
    monkeypatch.setattr(sys, "argv", ["onetrunk", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    result = capsys.readouterr()
    return int(end.value.code or 0), result.out, result.err


def expect(result: tuple[int, str, str], code: int, *words: str) -> None:
    assert result[0] == code, result
    assert "Traceback" not in result[2]
    for word in words:
        assert word in result[2].replace("\n", " "), result[2]


@pytest.fixture
def cli_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path):
    monkeypatch.chdir(place)
    return lambda *words: run(capsys, monkeypatch, *words)


def test_empty_file(cli_run, place: Path) -> None:
    (place / "empty.csv").write_text("")
    expect(cli_run("train", "empty.csv", "--ask", "label", "--out", "new"), 3, "empty.csv is empty")


def test_missing_column_suggests_the_nearest(cli_run) -> None:
    expect(cli_run("train", "data.csv", "--ask", "labl", "--out", "new"), 2, "labl", "Did you mean 'label'?")


def test_unknown_flag(cli_run) -> None:
    expect(cli_run("train", "data.csv", "--aks", "label"), 2, "No such option", "--aks")


def test_unknown_key_and_type_suggest_the_nearest(cli_run) -> None:
    expect(cli_run("train", "data.csv", "--ask", "label", "--set", "train.lrr=1"), 2, "Did you mean 'lr'?")
    expect(cli_run("inspect", "data.csv", "--types", "age=numbr"), 2, "Did you mean 'number'?")


def test_options_of_a_column_that_is_not_there(cli_run) -> None:
    result = cli_run("train", "data.csv", "--ask", "label", "--out", "new", "--set", "columns.nte.length=3", *QUICK)
    expect(result, 2, "Unknown column 'nte'", "Did you mean 'note'?")


def test_more_frozen_blocks_than_there_are_and_what_is_no_number_of_blocks(cli_run) -> None:
    options = ("finetune", "data.csv", "--ask", "label", "--out", "new", "--size", "nano", "--freeze")
    expect(cli_run(*options, "3"), 2, "--freeze 3: the model has 2 blocks")
    expect(
        cli_run(*options, "trnk"), 2, "'finetune.freeze'", "valid integer", "or input should be 'trunk'", "found 'trnk'"
    )


def test_a_file_where_a_folder_should_be_made(cli_run) -> None:
    expect(cli_run("pretrain", "data.csv", "--out", "data.csv", *QUICK), 2, "data.csv is a file")
    expect(cli_run("pretrain", "data.csv", "--out", "data.csv/m", *QUICK), 2, "data.csv is a file")
    expect(cli_run("demo", "--out", "data.csv"), 2, "data.csv is a file")


def test_a_place_that_denies_writing(cli_run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root nothing is denied, so the system's answer is put in its mouth."""

    def denied(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", denied)
        expect(cli_run("pretrain", "data.csv", "--out", "denied/m", *QUICK), 6, "Cannot write", "may write")
    assert not Path("denied").exists()


def test_one_class(cli_run, place: Path) -> None:
    (place / "one.csv").write_text("x,note,label\n" + "".join(f"{i % 7},word {i},a\n" for i in range(30)))
    expect(cli_run("train", "one.csv", "--ask", "label", "--out", "one", "--types", "label=category"), 3, "a")


def test_duplicate_column_names(cli_run, place: Path) -> None:
    (place / "twice.csv").write_text("a,a\n1,2\n")
    expect(cli_run("inspect", "twice.csv"), 3, "more than once: a")


def test_existing_output_folder(cli_run) -> None:
    expect(cli_run("train", "data.csv", "--ask", "label", "--out", "model"), 2, "already exists", "--overwrite")


def test_damaged_truncated_and_newer_model_folders(cli_run, place: Path) -> None:
    for name in ("damaged", "truncated", "newer"):
        shutil.copytree(place / "model", place / name, dirs_exist_ok=True)
    weights = place / "damaged" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    expect(cli_run("predict", "damaged", "data.csv"), 4, "model.safetensors", "differs")
    (place / "truncated" / "columns.safetensors").write_bytes(b"\0" * 10)
    expect(cli_run("predict", "truncated", "data.csv"), 4, "columns.safetensors")
    manifest = json.loads((place / "newer" / "manifest.json").read_text())
    (place / "newer" / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    expect(cli_run("predict", "newer", "data.csv"), 4, "newer onetrunk")


@pytest.mark.parametrize(("number", "word"), [(errno.ENOSPC, "space"), (errno.EACCES, "may write")])
def test_full_disk_and_no_permission(cli_run, monkeypatch: pytest.MonkeyPatch, number: int, word: str) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("onetrunk.storage.atomic._fsync", refuse)
    result = cli_run("pretrain", "data.csv", "--out", f"refused-{number}", *QUICK)
    expect(result, 6, word)
    assert not Path(f"refused-{number}", "manifest.json").exists()


def test_a_label_unseen_in_training_is_counted(cli_run, place: Path) -> None:
    (place / "unseen.csv").write_text("age,note,label\n30,good room,yes\n31,bad room,no\n32,odd room,maybe\n")
    code, _, err = cli_run("evaluate", "model", "unseen.csv")
    assert code == 0, err
    metrics = json.loads((place / "model" / "evidence" / "metrics.json").read_text())["tasks"][0]["metrics"]
    assert metrics["unseen"] == 1
    assert metrics["accuracy"] <= 2 / 3


def test_words_in_a_number_column_are_quarantined(cli_run, place: Path) -> None:
    rows = "".join(f"{'many' if i == 5 else i % 50},note {i % 9},{'ab'[i % 2]}\n" for i in range(300))
    (place / "words.csv").write_text("n,note,label\n" + rows)
    code, _, err = cli_run("pretrain", "words.csv", "--out", "words", "--types", "n=number", *QUICK)
    assert code == 0, err
    assert "many" in err
    asked = ("--ask", "label", "--given", "n,note")
    code, _, err = cli_run("finetune", "words.csv", *asked, "--out", "w3", "--types", "n=number", *QUICK)
    assert code == 0 and "Ledger: n: 1 ×" in err and "many" in err, "every verb that loses something says so"
    result = cli_run("pretrain", "words.csv", "--out", "w2", "--types", "n=number", "--max-bad", "0.001", *QUICK)
    expect(result, 3, "--max-bad")


def test_an_unreadable_image_among_good_ones(cli_run, place: Path) -> None:
    for kind in "ab":
        (place / "pictures" / kind).mkdir(parents=True)
    dice = np.random.default_rng(0)
    for i in range(120):
        picture = Image.fromarray(dice.integers(0, 255, (8, 8), dtype=np.uint8))
        picture.save(place / "pictures" / "ab"[i % 2] / f"{i}.png")
    (place / "pictures" / "a" / "0.png").write_bytes(b"not a picture")
    code, _, err = cli_run("pretrain", "pictures", "--out", "drawn", "--max-bad", "0.02", *QUICK)
    assert code == 0, err
    assert "not a readable image" in err.replace("\n", " ")
    expect(cli_run("pretrain", "pictures", "--out", "drawn2", "--max-bad", "0.001", *QUICK), 3, "--max-bad")


def test_recordings_bad_ones_among_them_are_heard_and_spoken(cli_run, place: Path) -> None:
    for kind, hertz in (("high", 1500), ("low", 300)):
        (place / "sounds" / kind).mkdir(parents=True)
        for i in range(50):
            tone = np.sin(2 * np.pi * (hertz + 5 * i) * np.arange(1200) / 8000)
            soundfile.write(place / "sounds" / kind / f"{i}.flac", tone / 2, 8000)
    silent = place / "sounds" / "low" / "0.flac"
    soundfile.write(silent, np.zeros(1200), 8000)
    result = cli_run("pretrain", "sounds", "--out", "heard", "--max-bad", "0.02", *QUICK)
    assert result[0] == 0 and "0.flac is silent" in result[2].replace("\n", " "), result
    expect(cli_run("pretrain", "sounds", "--out", "heard2", "--max-bad", "0.001", *QUICK), 3, "--max-bad")
    code, out, _ = cli_run("predict", "heard", "sounds", "--ask", "label", "--max-bad", "0.02", "--json")
    assert code == 0 and all(json.loads(line)["label"] in ("high", "low") for line in out.splitlines())
    speak = ("generate", "heard", "--ask", "audio", "--data", '{"label": "low"}', "--n", "2", "--steps", "2")
    assert cli_run(*speak, "--out", "said.csv")[0] == 0
    spoken = [soundfile.read(place / "said" / f"audio-000{i}.wav") for i in range(2)]
    assert all(rate == 8000 and len(samples) >= 320 for samples, rate in spoken)
    code, out, _ = cli_run(*speak, "--json")
    assert code == 0 and base64.b64decode(json.loads(out.splitlines()[0])["audio"]).startswith(b"RIFF")
    code, out, _ = cli_run(*speak)
    assert code == 0 and "bytes; see --out" in out


def test_text_longer_than_the_context_is_counted(cli_run, place: Path) -> None:
    result = cli_run("pretrain", "data.csv", "--out", "short", "--set", "columns.note.length=3", *QUICK)
    assert result[0] == 0, result
    assert "longer than 3 tokens" in result[2].replace("\n", " ")


def test_answers_as_table_and_as_json(cli_run, place: Path) -> None:
    code, out, _ = cli_run("predict", "model", '{"note": "good room"}', "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["label"] in ("yes", "no")
    assert answer["label_p_yes"] + answer["label_p_no"] == pytest.approx(1, abs=1e-5)
    code, _, _ = cli_run("predict", "model", "data.csv", "--out", "answers.csv")
    assert code == 0
    assert len((place / "answers.csv").read_text().splitlines()) == 81
    expect(cli_run("predict", "model", "data.csv", "--out", "answers.xyz"), 2, ".csv")


def test_names_are_mapped(cli_run, place: Path) -> None:
    (place / "other.csv").write_text("remark\ngood room\nbad room\n")
    expect(cli_run("predict", "model", "other.csv"), 3, "--map")
    code, out, _ = cli_run("predict", "model", "other.csv", "--map", "note=remark", "--json")
    assert code == 0
    assert len(out.splitlines()) == 2


def test_a_name_that_the_model_does_not_know_cannot_be_mapped_to(cli_run, place: Path) -> None:
    (place / "other.csv").write_text("remark,label\ngood room,yes\nbad room,no\n")
    verbs = [("predict",), ("embed",), ("evaluate",), ("explain",), ("audit", "--sensitive", "remark"),
             ("export", "--to", "onnx", "--out", "mapped")]  # fmt: skip
    for verb, *options in verbs:
        result = cli_run(verb, "model", "other.csv", "--map", "noet=remark", *options)
        expect(result, 2, "--map noet=remark: the model has no column 'noet'. Did you mean 'note'?")
    (place / "empty_rows.csv").write_text("note,other\n,1\n,2\n")
    expect(cli_run("predict", "model", "empty_rows.csv"), 3, "nothing is known of the row", "--max-bad 1.0")
    code, _, err = cli_run("predict", "model", "empty_rows.csv", "--max-bad", "1")
    assert code == 0 and "label: 2 × nothing is known of the row" in err


def test_importing_is_light() -> None:
    code = "import sys, onetrunk, onetrunk.cli; print('torch' in sys.modules, 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("verb", onetrunk.VERBS)
def test_every_verb_documents_its_parameters(verb: str, cli_run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    function = getattr(onetrunk, verb)
    summary, helps, examples = cli._documentation(function)
    assert summary.endswith(".")
    assert set(helps) == set(inspect.signature(function).parameters)
    code, out, _ = cli_run(verb, "--help")
    assert code == 0
    assert "--json" in out
    lines = [line for line in examples.splitlines()[1:] if line]
    assert lines and all(line.startswith(f"onetrunk {verb} ") or line == f"onetrunk {verb}" for line in lines)
    assert all(line in out for line in lines), "its examples"
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind == inspect.Parameter.KEYWORD_ONLY:
            assert cli._FLAGS.get(name, "--" + name.replace("_", "-")) in out, name


@pytest.mark.parametrize("verb", onetrunk.VERBS)
def test_every_example_is_a_command(verb: str) -> None:
    """Nothing that it needs is missing, and nothing is misspelt."""
    command = typer.main.get_command(cli._app()).commands[verb]
    for line in cli._documentation(getattr(onetrunk, verb))[2].splitlines()[1:]:
        if line:
            context = command.make_context(verb, shlex.split(line)[2:])
            assert context.params.get("to") in (None, *FORMATS)


def test_the_version_in_short(cli_run) -> None:
    assert cli_run("-V")[:2] == (0, f"onetrunk {onetrunk.__version__}\n")


def test_doctor_names_every_extra_and_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: needs for name, needs in declared["optional-dependencies"].items() if name != "dev"}
    assert {needs[0].partition(">")[0] for needs in extras.values()} == PURPOSES.keys()
    real = importlib.metadata.version

    def version(package: str) -> str:
        if package == "rdkit":
            raise importlib.metadata.PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    result = onetrunk.doctor(quiet=True)["extras"]
    assert result.keys() == extras.keys()
    assert result["chem"] == "no rdkit (molecules with RDKit): pip install 'onetrunk[chem]'"
    assert result["export"] == "installed"


@pytest.mark.parametrize(
    "error",
    [MemoryError(), pa.ArrowMemoryError("malloc of size 9 failed"), torch.OutOfMemoryError("CUDA out of memory"),
     RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
     (np._core if hasattr(np, "_core") else np.core)._exceptions._ArrayMemoryError((1 << 40,), np.dtype(np.float64))],
)  # fmt: skip
def test_out_of_memory_anywhere(cli_run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr("onetrunk.training.inspect_data.read_table", full)
    expect(cli_run("inspect", "data.csv"), 6, "onetrunk: Out of memory.")


def test_other_errors_stay_what_they_are(cli_run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr("onetrunk.training.inspect_data.read_table", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        cli_run("inspect", "data.csv")


@pytest.mark.parametrize(
    "words",
    [
        ("finetune", "data.csv", "--ask", "label", "--out", "x" * 300),
        ("evaluate", "y" * 300, "data.csv"),
        ("inspect", "z" * 5000),
    ],
)
def test_a_path_that_is_too_long(cli_run, words: tuple[str, ...]) -> None:
    expect(cli_run(*words), 2, "too long")
