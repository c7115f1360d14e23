"""A command that is stopped anywhere goes on when it is given again, and removes nothing of its own or the user's."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import worlds

import onetrunk
from onetrunk.core.errors import DataError, InterruptedRunError, OnetrunkError, UsageError
from onetrunk.data.loader import Loader
from onetrunk.engine.checkpoint import planned_steps
from onetrunk.engine.trainer import Trainer
from onetrunk.evaluation import evidence_folder
from onetrunk.inference.model_folder import Model
from onetrunk.storage import atomic
from onetrunk.training import finetune as finetuning
from onetrunk.training.output import Output

STEPS = ["pretrain.steps=3", "finetune.steps=3", "finetune.folds=2", "train.tensorboard=false", "train.save_every=1"]
QUICK = [*STEPS, "finetune.wide=false"]  # how long a wide read-out searches depends on the clock


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs, not even clean-up."""


def table(n: int = 60) -> dict[str, list[Any]]:
    return {
        "review": [f"{['warm', 'cold'][i % 2]} room {i}" for i in range(n)],
        "price": [80.5 + (i * 37) % 23 for i in range(n)],
        "label": [["good", "bad"][i % 2] for i in range(n)],
    }


def command(out: Path, overwrite: bool = False, **rest: Any) -> Model:
    data = rest.pop("data", None) or table()
    options = {"ask": ["label"], "size": "nano", "settings": QUICK, "quiet": True, **rest}
    return onetrunk.train(data, out=str(out), overwrite=overwrite, **options)


def weights(model: Model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_what_a_run_left_that_was_killed_at_its_very_end_is_gone_after_it_is_given_again(tmp_path: Path) -> None:
    """The model is complete, so that the command is refused; the lock of the foundation beside it was left."""
    worlds.model(table(), {"review": "text", "price": "number", "label": "category"}).save(tmp_path / "m")
    for name in (".m.lock", ".m-foundation.lock"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match="already exists"):
        command(tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


# Where it is killed: what is called, the how-manieth call of it, before or after it.
POINTS: dict[str, tuple[Any, str, int, bool]] = {
    "pretraining": (Loader, "__call__", 3, False),
    "before the foundation is saved": (Model, "save", 1, False),
    "after the foundation is saved": (Model, "save", 1, True),
    "before it is told that there is a foundation": (Output, "mark", 2, False),
    "before the end of the foundation's run": (Output, "finish", 1, False),
    "before a fold": (finetuning, "tune", 1, False),
    "in a fold": (Loader, "__call__", 6, False),
    "after a fold": (finetuning, "tune", 1, True),
    "before the last training": (finetuning, "tune", 3, False),
    "in the last training": (Loader, "__call__", 12, False),
    "at a checkpoint of the last training": (Trainer, "_save", 14, True),
    "before the model is saved": (Model, "save", 2, False),
    "after the model is saved": (Model, "save", 2, True),
    "before judging": (evidence_folder, "gather_evidence", 1, False),
    "after judging": (evidence_folder, "gather_evidence", 1, True),
    "before the evidence is written": (atomic, "add_files", 1, False),
    "after the evidence is written": (atomic, "add_files", 1, True),
    "before the end": (Output, "finish", 2, False),
}


@contextmanager
def killed(point: str | tuple[Any, str, int, bool]) -> Iterator[list[str]]:
    owner, name, number, after = POINTS[point] if isinstance(point, str) else point
    real, calls = getattr(owner, name), []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) == number and not after:
            raise Killed
        result = real(*args, **kwargs)
        if len(calls) == number:
            raise Killed
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, counted)
        yield calls


@contextmanager
def counting_steps() -> Iterator[list[int]]:
    seen: list[int] = []
    real = Loader.__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loader, "__call__", lambda self, step: seen.append(step) or real(self, step))
        yield seen


@pytest.fixture(autouse=True, scope="module")
def _fine_tuned_is_kept() -> Iterator[None]:
    """Three steps need not be better than none: here the last training, too, is there to be killed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetuning, "_better_start", lambda scores: "fine-tuned")
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], int]:
    """The weights of a run that nothing stops, and how many steps it takes."""
    with counting_steps() as steps:
        model = command(tmp_path_factory.mktemp("whole") / "m")
    assert model.provenance["decision"]["cross_validation"]
    return weights(model), len(steps)


def complete(out: Path) -> bool:
    """Is the model there with its evidence, and nothing left over beside it?"""
    atomic.verify(out)
    return (
        "evidence/metrics.json" in atomic.read_manifest(out)
        and not (out / "unfinished.json").exists()
        and {path.name for path in out.parent.iterdir()} == {out.name, f"{out.name}-foundation"}
        and not [path for path in out.rglob("*") if ".tmp" in path.name or ".old-" in path.name]
    )


@pytest.mark.parametrize("point", POINTS)
def test_train_killed_anywhere_goes_on(tmp_path: Path, point: str, whole: tuple[dict[str, torch.Tensor], int]) -> None:
    out = tmp_path / "m"
    with killed(point), counting_steps() as before, pytest.raises(Killed):
        command(out)
    with counting_steps() as steps:
        again = command(out)
    assert same(weights(again), whole[0]) and complete(out)
    assert len(before) + len(steps) <= whole[1] + 1, "no step but the one at which it was killed is made twice"
    with pytest.raises(UsageError, match="already exists"):
        command(out)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a finished run's model and foundation."""
    place = tmp_path_factory.mktemp("finished")
    command(place / "m", seed=5)
    return place


_OVERWRITING = [
    "pretraining", "before it is told that there is a foundation", "before the end of the foundation's run",
    "in a fold", "in the last training", "after the model is saved", "after judging", "before the end",
]  # fmt: skip


@pytest.mark.parametrize("point", _OVERWRITING)
def test_overwrite_killed_anywhere_goes_on_too(
    tmp_path: Path, point: str, whole: tuple[dict[str, torch.Tensor], int], finished: Path
) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    out = tmp_path / "m"
    names = ("m/data.csv", "m/evidence/my.txt", "m/checkpoints/kept/x", "m-foundation/notes")
    mine = [tmp_path / name for name in names]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    with killed(point), counting_steps() as before, pytest.raises(Killed):
        command(out, overwrite=True)
    with counting_steps() as steps:
        again = command(out, overwrite=True)
    assert same(weights(again), whole[0]) and complete(out)
    assert len(before) + len(steps) <= whole[1] + 1
    assert all(path.read_text() == "mine" for path in mine)
    assert not list(tmp_path.rglob("unfinished.json")), "what is finished is made anew the next time"


def test_what_is_finished_is_made_anew(tmp_path: Path, finished: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    with counting_steps() as steps:
        command(tmp_path / "m", overwrite=True, seed=5)
    assert steps.count(0) >= 3 and complete(tmp_path / "m")


@pytest.mark.parametrize("point", ["in the last training", "before judging"])
def test_another_command_does_not_go_on(tmp_path: Path, point: str) -> None:
    out = tmp_path / "m"
    with killed(point), pytest.raises(Killed):
        command(out)
    with pytest.raises(UsageError, match=r"already exists|another configuration"):
        command(out, settings=[*QUICK, "train.lr=0.01"])
    other = table()
    other["review"] = [f"{text}!" for text in other["review"]]
    with pytest.raises(OnetrunkError):
        command(out, data=other)
    model = command(out, overwrite=True, settings=[*QUICK, "train.lr=0.01"])
    assert complete(out) and model.provenance["stages"][0]["config"]["train"]["lr"] == 0.01


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_same_command_begins_anew_where_it_cannot_go_on_exactly(
    tmp_path: Path, whole: tuple[dict[str, torch.Tensor], int], overwrite: bool
) -> None:
    """What a clock decides, or another version does, may differ from what the run that was stopped began with."""
    out = tmp_path / "m"
    with killed("in the last training"), pytest.raises(Killed):
        command(out, overwrite=overwrite)
    with pytest.MonkeyPatch.context() as patch, counting_steps() as steps:
        patch.setattr("onetrunk.training.stage.weights_digest", lambda network: "another")
        again = command(out, overwrite=overwrite)
    assert complete(out) and len(steps) >= 3
    assert same(weights(again), whole[0]), "here only the digest differs"


WIDE = ["finetune.steps=6", "train.tensorboard=false", "train.save_every=2"]


@pytest.fixture(scope="module")
def whole_beside_wide(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return weights(command(tmp_path_factory.mktemp("wide") / "m", data=table(700), settings=WIDE))


@pytest.mark.parametrize(
    "point",
    [(Loader, "__call__", 5, False), (Model, "save", 1, True), (Model, "save", 2, False), (Model, "save", 2, True)],
    ids=["training", "the first model is there", "before the last", "the last is there"],
)
def test_train_beside_a_wide_read_out_goes_on(
    tmp_path: Path, point: tuple[Any, str, int, bool], whole_beside_wide: dict[str, torch.Tensor]
) -> None:
    """The default way on labelled rows: there is a usable model before the trunk has learnt."""
    out = tmp_path / "killed" / "m"
    with killed(point), pytest.raises(Killed):
        command(out, data=table(700), settings=WIDE)
    again = command(out, data=table(700), settings=WIDE)
    assert same(weights(again), whole_beside_wide) and "evidence/metrics.json" in atomic.read_manifest(out)
    assert not (out / "unfinished.json").exists()


@pytest.mark.parametrize(
    "point", [(Model, "save", 1, True), (Loader, "__call__", 3, False)], ids=["before its evidence", "pretraining"]
)
def test_there_is_a_usable_model_before_a_foundation_is_made(tmp_path: Path, point: tuple[Any, str, int, bool]) -> None:
    """Of simple models, where labels are few."""
    few = {"data": {**table(), "label": [["good", "bad", None, None][i % 4] for i in range(60)]}, "settings": STEPS}
    out = tmp_path / "m"
    with killed(point), pytest.raises(Killed):
        command(out, **few)
    usable = onetrunk.load(out)
    assert usable.network.wide_of("label") and usable.predict(table(4))["label"].isin(["good", "bad"]).all()
    assert ("evidence/metrics.json" in atomic.read_manifest(out)) == (point[0] is Loader)
    model = command(out, **few)
    assert complete(out) and [stage["stage"] for stage in model.provenance["stages"]][:2] == ["pretrain", "finetune"]


WRONG: dict[str, tuple[dict[str, Any], type[OnetrunkError]]] = {
    "an unknown column": ({"ask": ["lable"]}, UsageError),
    "an unknown setting": ({"settings": ["train.lrr=1"]}, UsageError),
    "a split that cannot be": ({"split": "given:nowhere"}, OnetrunkError),
    "nothing to judge on": ({"split": "random:100/0/0"}, DataError),
    "no such folder to start from": ({"start": "nowhere"}, OnetrunkError),
    "an option that a column lacks": ({"settings": ["columns.price.colour=3"]}, UsageError),
    "nothing to learn": ({"data": {"label": [None] * 60, "review": ["x"] * 60}}, OnetrunkError),
    "an unknown trunk": ({"settings": ["trunk.kind=lattice"]}, OnetrunkError),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("verb", ["train", "finetune", "pretrain"])
def test_nothing_is_removed_before_everything_is_checked(tmp_path: Path, verb: str, wrong: str) -> None:
    options, error = WRONG[wrong]
    if wrong == "nothing to judge on" and verb != "train":
        pytest.skip("only train judges")
    out = tmp_path / "m"
    for place in (out, Path(f"{out}-foundation")):
        atomic.commit(place, lambda staging: (staging / "model.txt").write_text("a model"))
        for name in ("checkpoints/step-3/x", "metrics.jsonl", "tensorboard/events.out.tfevents.1", "data.csv"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text("of the old run")
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    options = {"ask": ["label"], "settings": QUICK, **options}
    with pytest.raises(error):
        getattr(onetrunk, verb)(options.pop("data", table()), out=str(out), overwrite=True, quiet=True, **options)
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_other_verbs_with_overwrite_go_on_too(tmp_path: Path, verb: str) -> None:
    def call(out: str, **rest: Any) -> Model:
        options = {"ask": ["label"], "size": "nano", "settings": QUICK, "quiet": True, **rest}
        return getattr(onetrunk, verb)(table(), out=str(tmp_path / out), **options)

    expected = weights(call("whole"))
    call("m", seed=4)
    for point in (3, 1):
        real = Loader.__call__

        def until(self: Loader, step: int, point: int = point, real: Callable[..., Any] = real) -> Any:
            if step == point:
                raise Killed
            return real(self, step)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Loader, "__call__", until)
            if point == 3:  # the run has three steps: it is never asked for a fourth
                call("other", overwrite=True)
                continue
            with pytest.raises(Killed):
                call("m", overwrite=True)
    with counting_steps() as steps:
        assert same(weights(call("m", overwrite=True)), expected)
    assert steps == [1, 2]
    assert not (tmp_path / "m" / "unfinished.json").exists()


def test_leftovers_of_a_kill_are_swept_by_the_next_run(tmp_path: Path) -> None:
    out = tmp_path / "m"
    with killed("in the last training"), pytest.raises(Killed):
        command(out)
    digits = "0123456789abcdef" * 2
    (out / "metrics.jsonl.tmp").write_text("{")
    (out / "unfinished.json.tmp").write_text("{")
    for name in (f"step-9.tmp-{digits}", f"best.tmp-{digits}", f"step-1.old-{digits}", f"fold-7.tmp-{digits}"):
        (out / "checkpoints" / name).mkdir()
    (tmp_path / f"m.tmp-{digits}").mkdir()
    command(out)
    assert complete(out)


def test_a_kill_between_the_renames_of_a_swap_is_put_right_first(tmp_path: Path) -> None:
    """`m` is then `m.old-…`: it is found again before anything is trained, not after."""
    out = tmp_path / "m"
    command(out)
    (out / "data.csv").write_text("mine")
    out.rename(tmp_path / f"m.old-{'0123456789abcdef' * 2}")
    with counting_steps() as steps, pytest.raises(UsageError, match="already exists"):
        command(out)
    assert not steps and complete(out) and (out / "data.csv").read_text() == "mine"
    out.rename(tmp_path / f"m.old-{'0123456789abcdef' * 2}")
    assert onetrunk.load(out).tasks


def test_a_stopped_cross_validation_goes_on_from_where_it_says(tmp_path: Path) -> None:
    real, calls = Loader.__call__, []
    alone = {"settings": [*QUICK, "finetune.wide=false"]}  # nothing else decides in the end

    def interrupted(self: Loader, step: int) -> Any:
        calls.append(step)
        if len(calls) == 8:  # in the second fold
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loader, "__call__", interrupted)
        with pytest.raises(InterruptedRunError, match=r"saved in .*m/checkpoints/fold-1/checkpoints\. The") as error:
            command(tmp_path / "m", **alone)
    place = Path(str(error.value).partition("saved in ")[2].partition(". The same")[0])
    assert place.is_dir() and list(place.glob("step-*"))
    with counting_steps() as steps:
        command(tmp_path / "m", **alone)
    decided = onetrunk.load(tmp_path / "m").provenance["decision"]["kept"]
    assert len(calls) + len(steps) == 3 + 2 * 3 + 3 * (decided == "fine-tuned")
    assert complete(tmp_path / "m")
    assert not list((tmp_path / "m" / "checkpoints").glob("fold-*"))
    calibration = onetrunk.load(tmp_path / "m").calibration("label")
    assert calibration is not None and calibration.fitted_on == "rows held out in cross-validation"
    (tmp_path / "other").mkdir()
    assert calibration == command(tmp_path / "other" / "m", **alone).calibration("label"), (
        "as if nothing had stopped it"
    )


def test_a_link_as_out_is_followed(tmp_path: Path) -> None:
    (tmp_path / "big disk").mkdir()
    for there in (False, True):
        link, goal = tmp_path / f"m{there}", tmp_path / "big disk" / f"goal{there}"
        if there:
            goal.mkdir()
        link.symlink_to(goal)
        with killed("in the last training"), pytest.raises(Killed):
            command(link)
        model = command(link)
        assert link.is_symlink() and goal.is_dir() and not goal.is_symlink()
        assert same(weights(model), weights(onetrunk.load(goal)))
        onetrunk.evaluate(str(link), table(), allow_equal_rows=True, quiet=True)
        command(link, overwrite=True, seed=1)
        assert link.is_symlink() and json.loads((goal / "provenance.json").read_text())["stages"][-1]["seed"] == 1


def test_evaluating_leaves_what_the_user_put_into_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "m"
    command(out)
    (out / "train.csv").write_text("the only copy")
    (out / "evidence" / "figures" / "mine.png").parent.mkdir(exist_ok=True)
    (out / "evidence" / "figures" / "mine.png").write_text("a figure")
    onetrunk.evaluate(str(out), table(), allow_equal_rows=True, quiet=True)
    with pytest.raises(DataError):
        onetrunk.evaluate(str(out), {"label": [None], "review": ["x"]}, allow_equal_rows=True, quiet=True)
    assert (out / "train.csv").read_text() == "the only copy"
    assert (out / "evidence" / "figures" / "mine.png").read_text() == "a figure" and complete(out)


def test_a_budget_killed_in_the_final_swap_keeps_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoints, which say how many steps were planned, are then in `m.old-…` and not in the new folder."""
    monkeypatch.setattr("onetrunk.training.stage._LATE", 1000)  # however busy the machine is, all of them are made
    out, recover = tmp_path / "m", atomic.recover
    options: dict[str, Any] = {
        "ask": ["label"], "out": str(out), "size": "nano", "budget": "4s", "quiet": True,
        "settings": ["finetune.folds=2", "train.tensorboard=false"],
    }  # fmt: skip

    def stopped(path: str | Path) -> None:
        if list(tmp_path.glob("m.old-*")):
            raise Killed
        recover(path)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(atomic, "recover", stopped)
        onetrunk.finetune(table(), **options)
    (old,) = tmp_path.glob("m.old-*")
    planned, made = planned_steps(old), atomic.read_manifest(out)
    assert planned is not None and not (out / "checkpoints").exists()
    with counting_steps() as steps:
        onetrunk.finetune(table(), **options)
    assert planned_steps(out) == planned and not steps
    weights_of = [files["model.safetensors"]["sha256"] for files in (made, atomic.read_manifest(out))]
    assert weights_of[0] == weights_of[1] and [path.name for path in tmp_path.iterdir()] == ["m"]
