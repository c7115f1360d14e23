"""Boxes: what is refused, counted, followed through augmentation, found in pictures, and drawn on them."""

from __future__ import annotations

import base64
import io
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import worlds
from PIL import Image as Pillow

from onetrunk.columns.boxes.cells import cell_centres
from onetrunk.core.answer import Answer
from onetrunk.core.content import ReadPositions, Role
from onetrunk.core.errors import BadValueError, DataError, UsageError
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import encode
from onetrunk.data.table import Table

Boxes = partial(worlds.Sides, "boxes")

CAT = {"label": "cat", "box": [10, 20, 30, 40]}
DOG = {"label": "dog", "box": [0, 0, 8, 8]}
SQUARE = np.array([[50, 0, 50], [0, 40, 40]], dtype=np.float32)  # of a picture of 100 x 80 pixels, as it is


def fitted(values: list[Any], width: int | None = None, **options: Any) -> Any:
    sides = Boxes(options)
    sides.fit(values)
    if width:
        sides.build(width)
        worlds.wake(sides)
    return sides


def asked(sides: Any, values: list[Any], frame: np.ndarray = SQUARE, lens: list[int] | None = None) -> Any:
    content = worlds.content_of(sides, values)
    on = ReadPositions(np.array(lens or [16] * len(values)), {"frame": np.tile(frame, (len(values), 1, 1))})
    return sides.segment(content, Role.ASKED, worlds.keys(len(values)), on=on)


# -- values --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("cat", "expected a list of boxes, found str"),
        ([CAT, {"box": [1, 2, 3, 4]}], r"box 1 should be like .*found \{'box': \[1, 2, 3, 4\]\}"),
        ([{"label": "cat", "box": [1, 2, 3]}], "box 0 should be like"),
        ([{"label": "cat", "box": [1, 2, 3, float("nan")]}], "box 0 should be like"),
        ([{"label": "cat", "box": [1, 2, 3, "4"]}], "box 0 should be like"),
        ([["cat", 1, 2, 3, 4]], "box 0 should be like"),
    ],
)
def test_what_is_no_list_of_boxes_is_refused_with_a_reason(value: Any, reason: str) -> None:
    with pytest.raises(BadValueError, match=reason):
        fitted([[CAT]]).encode(value)


def test_lists_of_boxes_are_recognised_also_among_empty_ones() -> None:
    assert Boxes().recognise([[], [CAT, {**DOG, "score": 0.5}]]) == 1
    assert Boxes().recognise([[], []]) == 0  # could be lists of anything
    assert Boxes().recognise([[CAT], [{"box": [1, 2, 3, 4]}]]) == Boxes().recognise([[CAT], "cat"]) == 0
    assert Boxes().fingerprint([CAT, DOG]) == Boxes().fingerprint([DOG, {**CAT, "box": [10.0, 20.0, 30.0, 40.0]}])


def test_without_any_usable_box_there_is_nothing_to_fit() -> None:
    with pytest.raises(DataError, match="at least one box with a size"):
        Boxes({}).fit([[], [{"label": "cat", "box": [1, 1, 0, 5]}]])


def test_odd_boxes_are_counted_in_the_ledger_with_plain_reasons() -> None:
    picture = np.zeros((80, 100), dtype=np.uint8)
    odd = [
        [CAT, DOG],
        [{"label": "cat", "box": [200, 10, 5, 5]}, {"label": "cat", "box": [-9, 10, 5, 5]}],  # outside
        [{"label": "cat", "box": [90, 10, 30, 5]}, {"label": "cat", "box": [5, 5, 0, 9]}],  # beyond; no size
        [{"label": "cow", "box": [1, 1, 5, 5]}],  # unknown
        [CAT],  # without its picture
        "nonsense",
    ]
    table = Table({"image": [picture] * 4 + [None, picture], "boxes": odd})
    made = worlds.model(
        {"image": [picture], "boxes": [[CAT, DOG]]},
        {"image": "image", "boxes": "boxes"},
        options={"image": {"size": 16}},
    )
    ledger = Ledger()
    store = encode(table, list(made.columns.values()), made.network.encoders, ledger)
    result = {entry["reason"]: entry["count"] for entry in ledger.as_json() if entry["column"] == "boxes"}
    assert result == {
        "expected a list of boxes, found str": 1,
        "boxes of a class unseen in training": 1,
        "boxes without a size": 1,
        "boxes outside their picture": 2,
        "boxes that reach beyond their picture, cut at its border": 1,
        "lists of boxes whose image is missing: not trained on": 1,
    }
    learner = worlds.learner(made, worlds.objective(store, given=["image"], ask=["boxes"]))
    (loss,) = learner(worlds.batch(store, range(5), given=["image"], ask=["boxes"])).values()
    assert torch.isfinite(loss.sum) and set(loss.doc.tolist()) == {0, 1, 2, 3}  # none of this crashes a step


# -- asked: targets ------------------------------------------------------------------------------------------
def test_cells_are_told_the_box_in_what_is_seen() -> None:
    sides = fitted([[CAT, DOG]])
    segment = asked(sides, [[CAT], [], [CAT]], lens=[16, 16, 0])
    assert segment.lens.tolist() == [0, 0, 0] and len(segment.reads) == 32
    boxed = segment.targets["boxed"]
    assert boxed[:16].sum() > 1 and not boxed[16:].any()
    box = np.unique(segment.targets["box"][:16][boxed[:16]], axis=0)
    np.testing.assert_allclose(box, [[-0.8, -0.5, -0.2, 0.5]], atol=1e-6)
    centres = segment.targets["centre"][:16]
    np.testing.assert_array_equal(centres, cell_centres(4, 2))
    near = np.abs(centres - [-0.5, 0.0]).max(-1) < 1.5 / 4
    np.testing.assert_array_equal(boxed[:16], near & (np.abs(centres - [-0.5, 0.0]) < [0.3, 0.5]).all(-1))
    assert set(segment.targets["id"][:16].flat) == {-1, 0} and set(segment.targets["id"][16:].flat) == {-1}


def test_nothing_is_learnt_of_cells_of_an_unknown_class_and_of_boxes_that_cannot_be_seen() -> None:
    sides = fitted([[CAT, DOG]])
    cow = {"label": "cow", "box": [10, 20, 30, 40]}
    unknown = asked(sides, [[cow]]).targets
    assert set(unknown["id"].flat) == {-1, -2} and not unknown["boxed"].any()
    flat, outside = {"label": "cat", "box": [5, 5, 0, 9]}, {"label": "cat", "box": [200, 5, 9, 9]}
    mostly = {"label": "cat", "box": [90, 5, 40, 9]}  # a quarter of it is in the picture
    for unseen in (flat, outside, mostly):
        assert set(asked(sides, [[unseen]]).targets["id"].flat) == {-1}
    cut = asked(sides, [[{"label": "cat", "box": [90, 0, 20, 80]}]]).targets
    np.testing.assert_allclose(cut["box"][cut["boxed"]][0], [0.8, -1, 1, 1], atol=1e-6)


def test_boxes_follow_their_picture_through_augmentation() -> None:
    """The picture's own augmentation moves a bright patch; the boxes that cells are told lie around it."""
    image = worlds.Sides(
        "image",
        {"size": 64, "patch": 16, "rotate": 0.0, "scale": 0.3, "shift": 0.2, "light": 0.0, "flip": True, "turn": True},
    )
    picture, entry = np.zeros((80, 120), dtype=np.uint8), {"label": "cat", "box": [30, 24, 20, 28]}
    picture[24:52, 30:50] = 255
    image.fit([picture])
    keys = worlds.keys(24)
    seen = image.segment(worlds.content_of(image, [picture] * 24), Role.GIVEN, keys, augment=True)
    sides = fitted([[entry]], cells=4)
    on = ReadPositions(seen.lens, seen.facts)
    targets = sides.segment(worlds.content_of(sides, [[entry]] * 24), Role.ASKED, keys, on=on).targets
    compared = 0
    for d in range(24):
        boxed = targets["boxed"][16 * d : 16 * d + 16]
        rows, columns = np.nonzero(seen.content["pixels"][d, 0] > 0)
        if not boxed.any() or min(rows.min(), columns.min()) == 0 or max(rows.max(), columns.max()) == 63:
            continue
        box = (targets["box"][16 * d : 16 * d + 16][boxed][0] + 1) * 32  # to pixels of what is seen
        around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(box, around, atol=1.5)
        compared += 1
    assert compared > 12


def test_a_column_that_is_no_picture_is_refused() -> None:
    sides = fitted([[CAT]])
    content = worlds.content_of(sides, [[CAT]])
    for on in (ReadPositions(np.array([16])), ReadPositions(np.array([15]), {"frame": SQUARE[None]})):
        with pytest.raises(UsageError, match="square grids of one size; 'photo' has none"):
            fitted([[CAT]], on="photo").segment(content, Role.ASKED, worlds.keys(1), on=on)


def test_reading_on_a_column_that_is_not_there_says_which() -> None:
    made = worlds.model({"n": [1.0, 2.0], "b": [[CAT], [DOG]]}, {"n": "number", "b": "boxes"})
    store = worlds.store_of(made, {"n": [1.0], "b": [[CAT]]})
    with pytest.raises(UsageError, match=r"'b' is read on the column 'image'.*columns\.b\.on"):
        worlds.batch(store, [0], given=["n"], ask=["b"])
    assert made.answer({"n": [1.0]}, "b", ["n"])[0].value == []  # nothing to look at: nothing found


# -- answers -------------------------------------------------------------------------------------------------
def certain(sides: Any, P: int, hits: list[tuple[int, int, int, list[float]]]) -> dict[str, torch.Tensor]:
    """The state of one document after a step whose head says only `hits`: position, cell, class, raw box."""
    logits = torch.full((P, sides.options.cells**2, len(sides.classes)), -20.0)
    raw = torch.zeros(P, sides.options.cells**2, 4)
    for strength, (p, c, k, box) in enumerate(hits):
        logits[p, c, k], raw[p, c] = 3.0 - strength, torch.tensor(box)
    sides.dense.forward = lambda h: (logits, raw)
    on = ReadPositions(np.array([P]), {"frame": SQUARE[None]})
    state = sides.start(worlds.context(worlds.keys(1), on=on))
    return sides.step(state, torch.zeros(1, P, 8), None)


def test_answers_are_in_pixels_of_the_original_the_surest_first() -> None:
    sides = fitted([[CAT, DOG]], 8, cells=1)
    sides.encoder.typical = [0.4, 0.4]
    (answer,) = sides.finish(certain(sides, 16, [(5, 0, 0, [0, 0, 0, 0]), (10, 0, 1, [1, 0, 0, 0])]))
    cat, dog = answer.value
    assert (cat["label"], dog["label"]) == ("cat", "dog") and cat["score"] > dog["score"] > 0.8
    assert cat["box"] == pytest.approx([27.5, 22, 20, 16])  # centre -.25, -.25; 0.4 wide of 2
    assert dog["box"] == pytest.approx([62.5, 42, 20, 16])  # shifted by half its size
    assert sides.measure([answer], [[{**cat}, {**dog}]])["mAP@[.5:.95]"] == pytest.approx(1)


def test_the_less_sure_of_two_that_share_too_much_goes_and_boxes_end_at_the_border() -> None:
    sides = fitted([[CAT, DOG]], 8, cells=1, overlap=0.5)
    sides.encoder.typical = [0.5, 0.5]
    hits = [(0, 0, 0, [0.0, 0, 2, 0]), (1, 0, 0, [-2.0, 0, 2, 0]), (4, 0, 1, [0.0, -2, 2, 0]), (15, 0, 0, [0.0] * 4)]
    (answer,) = sides.finish(certain(sides, 16, hits))
    labels = [entry["label"] for entry in answer.value]
    assert labels == ["cat", "dog", "cat"]  # the second cat is the first again; a dog may be there
    x, y, w, _ = answer.value[0]["box"]
    assert x == 0 and y >= 0 and w <= 100 and x + w == pytest.approx(100)
    few = fitted([[CAT, DOG]], 8, cells=1, max_boxes=1)
    assert len(few.finish(certain(few, 16, hits))[0].value) == 1
    sure = fitted([[CAT, DOG]], 8, cells=1, min_score=0.9)
    assert [e["score"] > 0.9 for e in sure.finish(certain(sure, 16, hits))[0].value] == [True]


def test_missing_pictures_have_empty_answers_beside_others() -> None:
    table = {"image": [worlds._picture(i) for i in range(4)], "boxes": [worlds._scene(i) for i in range(4)]}
    made = worlds.model(table, {"image": "image", "boxes": "boxes"}, options={"boxes": {"min_score": 0.005}})
    pictures = [table["image"][0], None, table["image"][2]]
    answers = made.answer({"image": pictures}, "boxes", ["image"])
    assert answers[1].value == [] and answers[0].value and answers[2].value
    alone = made.answer({"image": pictures[2:]}, "boxes", ["image"])
    assert alone[0].value == answers[2].value
    assert [a.value for a in made.answer({"image": [None, None]}, "boxes", ["image"])] == [[], []]


# -- given and masked ----------------------------------------------------------------------------------------
def test_masked_boxes_lose_their_label_or_their_place_and_are_asked_for_it() -> None:
    sides = fitted([[CAT, DOG]], 16, mask_rate=0.9)
    flat, cow = {"label": "cat", "box": [5, 5, 0, 9]}, {"label": "cow", "box": [1, 1, 5, 5]}
    content = worlds.content_of(sides, [[CAT, DOG, flat, cow]] * 40)
    segment = sides.segment(content, Role.MASKED, worlds.keys(40))
    masked, targets = segment.content["masked"], segment.targets
    assert not masked.all(1).any() and 0.6 < masked[::4].any(1).mean() < 1
    assert not masked[2::4, 1].any() and not masked[3::4, 0].any()  # no place to ask for; no known label
    assert (targets["id"][:, 0] >= 0).tolist() == masked[segment.reads, 0].tolist()
    assert targets["boxed"][:, 0].tolist() == masked[segment.reads, 1].tolist()
    whole = sides.segment(content, Role.GIVEN, worlds.keys(40)).content
    assert (segment.content["id"][masked[:, 0]] == 0).all() and (segment.content["box"][masked[:, 1]] == 0).all()
    places = segment.reads[masked[segment.reads, 1]]
    np.testing.assert_array_equal(targets["box"][targets["boxed"]], whole["box"][places])
    x = sides.embed(worlds.tensors(segment.content))
    assert torch.isfinite(x).all()


def test_new_classes_can_be_found_too() -> None:
    sides = fitted([[CAT, DOG]], 8)
    assert sides.extend([[{"label": "cow", "box": [1, 1, 5, 5]}], [CAT]]) == 1
    assert sides.classes == ["cat", "dog", "cow"] and sides.encode([{"label": "cow", "box": [1, 1, 5, 5]}])["id"] == [2]
    logits, _ = sides.dense(torch.zeros(1, 8))
    assert logits.shape[-1] == 3 and len(sides.table) == len(sides.label_head) == 3


# -- for a person --------------------------------------------------------------------------------------------
def test_boxes_are_drawn_on_their_picture_and_unsure_ones_are_not() -> None:
    picture = np.full((80, 100, 3), 200, dtype=np.uint8)
    sure, unsure = {**CAT, "score": 0.9}, {"label": "dog", "box": [60, 40, 30, 30], "score": 0.1}
    png = Pillow.open(io.BytesIO(base64.b64decode(Boxes().show([sure, unsure], picture)["png"])))
    drawn = np.asarray(png)
    assert drawn.shape == (400, 500, 3)  # small pictures are enlarged
    assert (drawn[300, 50:200] != 200).any(1).all()  # one's lower edge
    assert (drawn[225, 300:450] == 200).all()  # not the other's
    assert Boxes().show([sure, unsure]) == {"text": "1 cat"} == Boxes().show([sure], b"no picture")
    assert Boxes().show([]) == {"text": "nothing"}
    large = Pillow.open(io.BytesIO(base64.b64decode(Boxes().show([sure], np.zeros((700, 1400), np.uint8))["png"])))
    assert large.size == (512, 256)


def test_a_figure_shows_precision_and_recall_of_every_class() -> None:
    from matplotlib.figure import Figure

    sides, axes = fitted([[CAT, DOG]]), Figure().add_subplot()
    truths = [[CAT, DOG], [DOG]]
    assert sides.figure([Answer([{**CAT, "score": 1.0}]), Answer([{**DOG, "score": 1.0}])], truths, axes)
    assert {line.get_label() for line in axes.lines} == {"cat 1.00", "dog 0.50"}
    assert not sides.figure([Answer([])], [[]], Figure().add_subplot())
