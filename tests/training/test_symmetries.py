"""Which changes of a picture training may make is found out: as far as answers do not depend on them."""

from __future__ import annotations

import numpy as np
import pytest
import worlds

from onetrunk.data.store import Store
from onetrunk.inference.model_folder import Task
from onetrunk.training.symmetries import decide_symmetries

ROWS = 80


def _bright(side: str) -> np.ndarray:
    picture = np.zeros((8, 8), np.uint8)
    picture[{"left": np.s_[:, :4], "right": np.s_[:, 4:], "top": np.s_[:4], "bottom": np.s_[4:]}[side]] = 255
    return picture


@pytest.mark.parametrize(
    ("sides", "looks", "allowed"),
    [(("top", "bottom"), True, True), (("left", "right"), True, False), (("top", "bottom"), False, False)],
    ids=["mirrored ones say the same", "mirrored ones say the other", "nobody looks, nobody knows"],
)
def test_mirrored_pictures_are_learnt_from_where_they_say_the_same(
    sides: tuple[str, str], looks: bool, allowed: bool
) -> None:
    label = [sides[i % 2] for i in range(ROWS)]
    table = {"picture": [_bright(side) for side in label], "label": label}
    made = worlds.model(table, {"picture": "image", "label": "category"})
    store = worlds.store_of(made, table)
    first = _bright(sides[0]) > 0

    def losses(store: Store) -> np.ndarray:
        """Of a model that compares the picture with the first class's, .1 where it is right; .7 where it sees none."""
        c = store.names.index("picture")
        index = store.index[:, c]
        if not looks or (index < 0).all():
            return np.full(ROWS, 0.7)
        pixels = store.contents[c].take(index).gather()["pixels"][:, 0] > 127
        says_first = (pixels == first).mean((1, 2)) > 0.5
        right = says_first == np.array([side == sides[0] for side in label])
        return np.where(right, 0.1, 3.0)

    decisions: list[object] = []
    decide_symmetries(made, store, Task(["picture"], ["label"]), losses, decisions.append)
    assert made.encoder("picture").options.flip is allowed and len(decisions) == 2
    assert made.encoder("picture").options.erase == (0.25 if looks else 0), "a small square hides no half"
    decide_symmetries(made, store, Task(["picture"], ["label"]), losses, decisions.append)
    assert len(decisions) == 2, "what is decided stays"


def test_a_square_that_hides_what_matters_is_not_laid_on_pictures() -> None:
    """A spot in the middle says the label; a square of a quarter of the side lies on it in one picture of eight."""
    label = ["dark", "bright"] * (ROWS // 2)
    pictures = [np.zeros((16, 16), np.uint8) for _ in label]
    for picture, name in zip(pictures, label, strict=True):
        picture[7:9, 7:9] = 255 if name == "bright" else 0
    table = {"picture": pictures, "label": label}
    made = worlds.model(table, {"picture": "image", "label": "category"})
    made.encoder("picture").decide("flip", True)
    store = worlds.store_of(made, table)

    def losses(store: Store) -> np.ndarray:
        index = store.index[:, store.names.index("picture")]
        if (index < 0).all():
            return np.full(ROWS, 0.7)
        spot = store.contents[store.names.index("picture")].take(index).gather()["pixels"][:, 0, 7:9, 7:9].mean((1, 2))
        return np.where((spot > 64) & (spot < 192), 3.0, 0.1)

    decide_symmetries(made, store, Task(["picture"], ["label"]), losses, lambda event: None)
    assert made.encoder("picture").options.erase == 0
