"""What is on disk is whole and verified, or refused with a plain message."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import random
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from onetrunk.core.errors import ModelFileError, ResourceError, UsageError
from onetrunk.evaluation.record import Evidence
from onetrunk.storage import atomic, strict_json
from onetrunk.storage.header import read_header
from onetrunk.storage.strict_json import read_json, write_json
from onetrunk.storage.tensors import load_tensors, save_tensors


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_PAUSE", 0.0)


def write_a(staging: Path) -> None:
    (staging / "a.json").write_text('{"a": 1}')
    (staging / "evidence").mkdir()
    (staging / "evidence" / "b.bin").write_bytes(bytes(range(256)))


def write_c(staging: Path) -> None:
    (staging / "c.json").write_text("{}")


def tree(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


FOREIGN = {
    "data.csv": "a,b", "notes/day 1.txt": "years of work", "evidence/my own.txt": "of mine",
    "evidence/deep/er.bin": "x", ".git/config": "y", "config.json.bak": "z", "checkpoints/kept/by me": "w",
    "tmp-x": "", "m.old-1": "v", "房价.txt": "u",
}  # fmt: skip


def put_foreign(path: Path) -> dict[str, bytes]:
    """What a person keeps in a model folder."""
    for name, text in FOREIGN.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return {name: text.encode() for name, text in FOREIGN.items()}


# -- commit ------------------------------------------------------------------------------------------------
def test_commit_makes_a_verified_folder_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    atomic.commit(tmp_path / "deep" / "m", write_a)
    atomic.verify(tmp_path / "deep" / "m")
    assert set(tree(tmp_path / "deep" / "m")) == {"a.json", "evidence/b.bin", "manifest.json"}
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["m"]


def test_an_existing_model_is_replaced_only_when_told(tmp_path: Path) -> None:
    path = tmp_path / "m"
    atomic.commit(path, write_a)
    before = tree(path)
    with pytest.raises(UsageError, match=r"already exists\. Choose another --out, or replace it with --overwrite"):
        atomic.commit(path, write_c)
    assert tree(path) == before
    atomic.commit(path, write_c, replace=True)
    assert set(tree(path)) == {"c.json", "manifest.json"}


def test_a_folder_that_is_no_model_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="holds other files"):
        atomic.commit(tmp_path, write_a, replace=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(UsageError, match="is not a folder"):
        atomic.commit(tmp_path / "f", write_a, replace=True)
    with pytest.raises(UsageError, match="a file is in its way"):
        atomic.commit(tmp_path / "f" / "m", write_a)


def test_committing_finishes_a_training_folder_and_keeps_its_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "m"
    (path / "checkpoints").mkdir(parents=True)
    (path / "checkpoints" / "x").write_text("kept")
    (path / "metrics.jsonl").write_text("{}\n")
    atomic.commit(path, write_a)
    atomic.commit(path, write_c, replace=True)
    atomic.verify(path)
    assert set(tree(path)) == {"c.json", "manifest.json", "checkpoints/x", "metrics.jsonl"}


@pytest.mark.parametrize("how", ["replaced", "added to"])
def test_what_is_not_the_models_stays_where_it_is(tmp_path: Path, how: str) -> None:
    path = tmp_path / "m"
    atomic.commit(path, write_a)
    before = put_foreign(path)
    (path / "empty" / "folder").mkdir(parents=True)
    (path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "big.bin").write_text("data")
    (path / "evidence" / "link").symlink_to("../nowhere")
    for _ in range(2):
        if how == "replaced":
            atomic.commit(path, write_c, replace=True)
        else:
            atomic.add_files(path, write_c)
        atomic.verify(path)
        result = tree(path)
        assert {name: result[name] for name in before} == before and "c.json" in result
        assert ("a.json" in result) == (how == "added to")
        assert (path / "empty" / "folder").is_dir()
        assert (path / "link" / "big.bin").read_text() == "data" and (path / "link").is_symlink()
        assert (path / "evidence" / "link").is_symlink()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["elsewhere", "m"]


@pytest.mark.parametrize("theirs", ["c.json", "c.json/inside.txt", "evidence/b.bin", "evidence"])
def test_no_file_takes_the_place_of_one_that_is_not_the_models(tmp_path: Path, theirs: str) -> None:
    path = tmp_path / "m"
    atomic.commit(path, lambda staging: (staging / "x").write_text("x"))
    (path / theirs).parent.mkdir(parents=True, exist_ok=True)
    (path / theirs).write_text("mine")
    before = tree(path)

    def write(staging: Path) -> None:
        write_a(staging)
        write_c(staging)

    for replace in (lambda: atomic.commit(path, write, replace=True), lambda: atomic.add_files(path, write)):
        with pytest.raises(UsageError, match=r"is not the model's.*Move it to another place") as error:
            replace()
        assert str(path / Path(theirs).parts[0]) in str(error.value)
        assert tree(path) == before and [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_stopped_runs_folder_may_hold_other_files_too(tmp_path: Path) -> None:
    path = tmp_path / "m"
    (path / "checkpoints").mkdir(parents=True)
    before = put_foreign(path)
    atomic.commit(path, write_a)
    atomic.verify(path)
    assert {name: tree(path)[name] for name in before} == before


@pytest.mark.parametrize("damage", [b"{", b"{}", b'{"format": 2, "files": 3}', b""])
def test_a_model_whose_manifest_is_damaged_is_not_replaced(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "m"
    atomic.commit(path, write_a)
    (path / "mine.txt").write_text("mine")
    (path / "manifest.json").write_bytes(damage)
    before = tree(tmp_path)
    with pytest.raises(UsageError, match=r"is damaged.*nothing is replaced"):
        atomic.commit(path, write_c, replace=True)
    assert tree(tmp_path) == before


def test_an_older_model_is_replaced_as_any(tmp_path: Path) -> None:
    path = tmp_path / "m"
    atomic.commit(path, write_a)
    manifest = read_json(path / "manifest.json")
    write_json(path / "manifest.json", {**manifest, "format": 1})
    with pytest.raises(ModelFileError, match=r"older onetrunk \(folder format 1.*Make it again"):
        atomic.verify(path)
    before = put_foreign(path)
    atomic.commit(path, write_c, replace=True)
    assert tree(path).keys() == {*before, "c.json", "manifest.json"}


@pytest.mark.parametrize("target", ["there", "not there yet", "a link itself"])
def test_a_link_to_the_folder_stays_a_link(tmp_path: Path, target: str) -> None:
    (tmp_path / "disk").mkdir()
    goal = tmp_path / "disk" / "m"
    if target == "there":
        atomic.commit(goal, write_a)
    elif target == "a link itself":
        (tmp_path / "disk" / "far").mkdir()
        goal.symlink_to("far")
    link = tmp_path / "link"
    link.symlink_to("disk/m")
    atomic.commit(link, write_c, replace=True)
    atomic.add_files(link, write_a)
    atomic.commit(link, write_c, replace=True)
    atomic.verify(link)
    assert link.is_symlink() and tree(goal).keys() == {"c.json", "manifest.json"}
    atomic.recover(link)
    assert {p.name for p in (tmp_path / "disk").iterdir()} == ({"m", "far"} if target == "a link itself" else {"m"})
    assert {p.name for p in tmp_path.iterdir()} == {"disk", "link"}


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_keeps_the_previous_folder(tmp_path: Path, existing: bool) -> None:
    path = tmp_path / "m"
    if existing:
        atomic.commit(path, write_a)
    before = tree(tmp_path)

    def full(staging: Path) -> None:
        (staging / "half").write_bytes(b"x" * 1_000_000)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ResourceError, match=r"No space to write .*m: .* MB free, at least 1\.0 MB needed") as seen:
        atomic.commit(path, full, replace=True)
    assert seen.value.exit_code == 6
    assert tree(tmp_path) == before


@pytest.mark.parametrize(("failures", "tries", "works"), [(1, 2, True), (2, 2, False), (99, 2, False)])
def test_a_full_disk_is_tried_once_more(tmp_path: Path, failures: int, tries: int, works: bool) -> None:
    path, seen = tmp_path / "m", []

    def full_at_first(staging: Path) -> None:
        seen.append([p.name for p in tmp_path.iterdir()])
        write_a(staging)
        if len(seen) <= failures:
            raise OSError(errno.ENOSPC, "No space left on device")

    if works:
        atomic.commit(path, full_at_first)
        atomic.verify(path)
    else:
        with pytest.raises(ResourceError, match="No space to write"):
            atomic.commit(path, full_at_first)
    assert len(seen) == tries
    assert all(len(names) == 1 for names in seen), "the first try's files are gone before the second"
    assert [p.name for p in tmp_path.iterdir()] == (["m"] if works else [])


def test_only_a_full_disk_is_tried_again(tmp_path: Path) -> None:
    seen = []

    def denied(staging: Path) -> None:
        seen.append(staging)
        raise OSError(errno.EACCES, "not allowed")

    with pytest.raises(ResourceError, match="Cannot write"):
        atomic.commit(tmp_path / "m", denied)
    assert len(seen) == 1


def test_space_is_looked_at_before_writing(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="needed"):
        atomic.commit(tmp_path / "m", lambda staging: pytest.fail("it wrote"), needs=1 << 62)


def test_a_real_limit_on_file_size_is_a_full_disk(tmp_path: Path) -> None:
    """safetensors reports disk faults in its own exception; they must come out as ours."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    tensors = {"w": torch.zeros(100_000)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(ResourceError, match="No space"):
            atomic.commit(tmp_path / "m", lambda s: save_tensors(s / "w.safetensors", tensors))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_no_permission_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def denied(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(number, "not allowed")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(ResourceError, match=r"Cannot write .*m: not allowed"):
        atomic.commit(tmp_path / "m", write_a)


def test_another_error_of_the_writer_is_not_renamed(tmp_path: Path) -> None:
    def broken(staging: Path) -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        atomic.commit(tmp_path / "m", broken)
    assert list(tmp_path.iterdir()) == []


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs, not even clean-up."""


def test_a_kill_at_any_instant_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills at every operation on the disk in turn: one whole folder, its checkpoints and what else stood in it must
    be found."""
    real = {name: getattr(Path, name) for name in ("rename", "mkdir", "iterdir", "unlink", "rmdir")}
    real_fsync, real_rmtree = atomic._fsync, shutil.rmtree
    outcomes = []
    for instant in range(1000):
        place = tmp_path / str(instant)
        path = place / "m"
        atomic.commit(path, write_a)
        (path / "checkpoints").mkdir()
        (path / "checkpoints" / "x").write_text("kept")
        before = put_foreign(path)
        left = [instant]

        def tick(call, left=left):
            def counted(*args, **kwargs):
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                return call(*args, **kwargs)

            return counted

        with monkeypatch.context() as patch:
            for name, call in real.items():
                patch.setattr(Path, name, tick(call))
            patch.setattr(atomic, "_fsync", tick(real_fsync))
            patch.setattr(shutil, "rmtree", tick(real_rmtree))
            try:
                atomic.commit(path, write_c, replace=True)
            except Killed:
                killed = True
            else:
                killed = False
        atomic.verify(path)  # a reader finds it whole without any repair
        atomic.recover(path)
        atomic.verify(path)
        assert [p.name for p in place.iterdir()] == ["m"]
        assert (path / "checkpoints" / "x").read_text() == "kept"
        assert {name: tree(path)[name] for name in before} == before
        outcomes.append("c.json" in tree(path))
        if not killed:
            break
    assert outcomes[0] is False and outcomes[-1] is True
    assert outcomes == sorted(outcomes)  # once new, new
    assert len(outcomes) > 10


# -- verify ------------------------------------------------------------------------------------------------
def test_verify_names_the_damaged_file(tmp_path: Path) -> None:
    def write(staging: Path) -> None:
        (staging / "tensors").mkdir()
        (staging / "tensors" / "b.bin").write_bytes(bytes(range(256)))

    path = tmp_path / "m"
    atomic.commit(path, write)
    good = (path / "tensors" / "b.bin").read_bytes()
    draw = random.Random(0)
    for _ in range(50):
        bad = bytearray(good)
        kind = draw.choice(["flip", "cut", "grow", "remove"])
        if kind == "flip":
            bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del bad[draw.randrange(len(bad)) :]
        elif kind == "grow":
            bad += b"\0"
        (path / "tensors" / "b.bin").write_bytes(bad)
        if kind == "remove":
            (path / "tensors" / "b.bin").unlink()
        with pytest.raises(ModelFileError, match=r"b\.bin .*Restore it from a copy"):
            atomic.verify(path)
    (path / "tensors" / "b.bin").write_bytes(good)
    atomic.verify(path)


def test_verify_says_what_is_missing_or_newer(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="There is no model folder"):
        atomic.verify(tmp_path / "nowhere")
    with pytest.raises(ModelFileError, match="run the same command again"):
        atomic.verify(tmp_path)
    write_json(tmp_path / "manifest.json", {"format": atomic.FORMAT + 1, "files": {}})
    with pytest.raises(ModelFileError, match=r"newer onetrunk.*pip install -U onetrunk"):
        atomic.verify(tmp_path)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "nul\0", "half \ud800"])
def test_a_manifest_cannot_point_outside(tmp_path: Path, name: str) -> None:
    entry = {"size": 0, "sha256": ""}
    (tmp_path / "manifest.json").write_text(json.dumps({"format": atomic.FORMAT, "files": {name: entry}}))
    with pytest.raises(ModelFileError, match="bad entry"):
        atomic.verify(tmp_path)


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    """Not even where the manifest has it as an empty file."""
    entry = {"size": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    write_json(tmp_path / "manifest.json", {"format": atomic.FORMAT, "files": {"config.json": entry}})
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ModelFileError, match=r"config\.json is no file"):
        atomic.verify(tmp_path)
    for read in (read_json, read_header):
        with pytest.raises(ModelFileError, match=r"config\.json is no file"):
            read(tmp_path / "config.json")
    (tmp_path / "evidence").mkdir()
    os.mkfifo(tmp_path / "evidence" / "metrics.json")
    with pytest.raises(ModelFileError, match=r"metrics\.json is no file"):
        Evidence.read(tmp_path)


def test_a_finished_model_does_not_answer_for_the_files_of_its_run(tmp_path: Path) -> None:
    path = tmp_path / "m"
    atomic.commit(path, write_a)
    (path / "metrics.jsonl").write_text("anything")
    atomic.verify(path)
    assert "metrics.jsonl" not in atomic.read_manifest(path)


# -- add_files ---------------------------------------------------------------------------------------------
def test_added_files_are_covered(tmp_path: Path) -> None:
    path = tmp_path / "m"
    atomic.commit(path, write_a)

    def more(staging: Path) -> None:
        (staging / "evidence").mkdir()
        (staging / "evidence" / "metrics.json").write_text("{}")
        (staging / "a.json").write_text('{"a": 2}')

    atomic.add_files(path, more)
    atomic.verify(path)
    assert read_json(path / "a.json") == {"a": 2}
    assert (path / "evidence" / "b.bin").read_bytes() == bytes(range(256))
    (path / "evidence" / "metrics.json").write_text("[]")
    with pytest.raises(ModelFileError, match=r"metrics\.json is damaged"):
        atomic.verify(path)


def test_what_tells_of_a_model_may_be_edited_or_missing(tmp_path: Path) -> None:
    """A card is a person's to edit, and a copy need not hold pictures: neither is computed with."""

    def write(staging: Path) -> None:
        (staging / "weights").write_bytes(b"w")
        (staging / "README.md").write_text("ours")
        (staging / "evidence").mkdir()
        (staging / "evidence" / "report.html").write_text("old")

    def again(staging: Path) -> None:
        (staging / "README.md").write_text("newer")
        (staging / "evidence").mkdir()
        (staging / "evidence" / "report.html").write_text("newer")

    folder = tmp_path / "m"
    atomic.commit(folder, write)
    (folder / "README.md").write_text("my own words")
    (folder / "evidence" / "report.html").unlink()
    atomic.verify(folder)
    for _ in range(2):
        atomic.add_files(folder, again)
        assert (folder / "README.md").read_text() == "my own words"
        assert (folder / "README.new.md").read_text() == "newer"
        assert (folder / "evidence" / "report.html").read_text() == "newer"
        atomic.verify(folder)
    (folder / "README.md").unlink()
    atomic.verify(folder)
    atomic.add_files(folder, again)
    assert (folder / "README.md").read_text() == "newer" and not list(tmp_path.glob("m.*"))
    for name in ("weights", "evidence/report.html"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(b"other")
        with pytest.raises(ModelFileError, match=f"{name} is damaged"):
            atomic.verify(folder)
        (folder / name).write_bytes(kept)


def test_adding_files_never_blesses_damage(tmp_path: Path) -> None:
    path = tmp_path / "m"
    atomic.commit(path, write_a)
    (path / "a.json").write_text('{"a": 7}')
    atomic.add_files(path, write_c)
    with pytest.raises(ModelFileError, match=r"a\.json is damaged"):
        atomic.verify(path)


# -- tensors -----------------------------------------------------------------------------------------------
def test_tensors_round_trip_bit_for_bit_shared_and_strided_too(tmp_path: Path) -> None:
    w = torch.randn(4, 6)
    tensors = {"w": w, "tied": w, "turned": w.T, "half": w.bfloat16(), "n": torch.tensor(3), "none": w[:0]}
    save_tensors(tmp_path / "x.safetensors", tensors)
    back = load_tensors(tmp_path / "x.safetensors", {k: tuple(v.shape) for k, v in tensors.items()})
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[k], v) and back[k].dtype == v.dtype for k, v in tensors.items())


class Canary:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["x.safetensors", "pytorch_model.bin"])
def test_pickles_are_refused_by_content(tmp_path: Path, monkeypatch, protocol: int, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Canary(), protocol))
    with pytest.raises(ModelFileError, match="safetensors"):
        load_tensors(path)
    if protocol >= 2:
        with pytest.raises(ModelFileError, match=r"pickle files can run code .* safetensors only"):
            load_tensors(path)
    assert not (tmp_path / "executed").exists()


def test_zips_and_torch_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    torch.save({"a": torch.zeros(3)}, path)
    with pytest.raises(ModelFileError, match="pickle files can run code"):
        load_tensors(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(ModelFileError, match="pickle files can run code"):
        load_tensors(path)


def raw(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


ONE = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
CRAFTED = {
    "empty": (b"", "not a safetensors file"),
    "short": (b"\x01\x02", "not a safetensors file"),
    "no header": (raw(b"", b"0000", 0), "not a safetensors file"),
    "huge header": (raw(b"{}", length=1 << 40), "at most 16,777,216"),
    "truncated header": (raw(b"{}", length=5000), "truncated"),
    "not json": (raw(b"{nope}"), "not valid JSON"),
    "not utf-8": (raw(b'{"\xff":1}'), "not valid JSON"),
    "deep": (raw(b'{"a":' + b"[" * 200_000), "not valid JSON"),
    "long number": (raw(b'{"a":' + b"9" * 5000 + b"}"), "not valid JSON"),
    "twice": (raw(b"{" + ONE + b"," + ONE + b"}", b"0000"), "a key stands twice"),
    "no shape": (raw(b'{"a":{"dtype":"F32","data_offsets":[0,4]}}', b"0000"), "no proper shape"),
    "negative shape": (raw(b"{" + ONE.replace(b"[1]", b"[-1]") + b"}", b"0000"), "no proper shape"),
    "bomb": (raw(b"{" + ONE.replace(b"[1]", b"[1000000000000]") + b"}", b"0000"), "damaged"),
    "unknown type": (raw(b"{" + ONE.replace(b"F32", b"X99") + b"}", b"0000"), "unknown type"),
    "offsets outside": (raw(b"{" + ONE.replace(b"[0,4]", b"[0,4000]") + b"}", b"0000"), "damaged"),
    "truncated data": (raw(b"{" + ONE + b"}", b"00"), "damaged"),
    "data left over": (raw(b"{" + ONE + b"}", b"00000000"), "damaged"),
}


@pytest.mark.parametrize("case", CRAFTED)
def test_crafted_headers_are_refused(tmp_path: Path, case: str) -> None:
    content, message = CRAFTED[case]
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        load_tensors(path)


def test_a_good_crafted_header_is_taken(tmp_path: Path) -> None:
    """The control of the test above."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw(b"{" + ONE + b"}", struct.pack("<f", 2.5)))
    assert load_tensors(path)["a"].tolist() == [2.5]


def test_too_many_tensors_are_refused(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw(json.dumps({str(i): entry for i in range(100_001)}).encode()))
    with pytest.raises(ModelFileError, match=r"100,001 tensors; at most 100,000"):
        load_tensors(path)


def test_shapes_are_checked_before_anything_is_allocated(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"w": torch.zeros(2, 3)})
    monkeypatch.setattr(safetensors.torch, "load_file", lambda path: pytest.fail("it loaded"))
    with pytest.raises(ModelFileError, match=r"'w' should have shape \[3, 2\], found \[2, 3\]"):
        load_tensors(path, {"w": (3, 2)})
    with pytest.raises(ModelFileError, match="'v' is missing"):
        load_tensors(path, {"w": (2, 3), "v": (1,)})
    with pytest.raises(ModelFileError, match="'w' is not expected"):
        load_tensors(path, {})


# -- JSON --------------------------------------------------------------------------------------------------
def test_json_round_trip(tmp_path: Path) -> None:
    data = {"中": [1, 0.1, None, True], "b": {"c": "\u0000"}}
    write_json(tmp_path / "x.json", data)
    assert read_json(tmp_path / "x.json") == data
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"a": float("nan")})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1, "a": 2}', "a key stands twice"),
        (b'{"a": {"b": 1, "b": 2}}', "a key stands twice"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "not a JSON number"),
        (b"[" * 200_000, "not valid JSON"),
        (b"[1]", "should hold a JSON object, found a list"),
        (b'{"a"', "not valid JSON"),
        (b"\xff\xfe{", "not valid JSON"),
    ],
)
def test_bad_json_gets_a_plain_message(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        read_json(tmp_path / "x.json")


def test_json_has_a_cap_and_must_exist(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_json(tmp_path / "x.json")
    monkeypatch.setattr(strict_json, "_MAX_JSON_BYTES", 10)
    (tmp_path / "x.json").write_text(json.dumps({"a": "b" * 20}))
    with pytest.raises(ModelFileError, match="at most 10"):
        read_json(tmp_path / "x.json")


def test_a_type_that_is_no_name_is_refused(tmp_path: Path) -> None:
    """Found by `bench edges`."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw(b"{" + ONE.replace(b'"F32"', b"[1]") + b"}", b"0000"))
    with pytest.raises(ModelFileError, match="unknown type"):
        load_tensors(path)
