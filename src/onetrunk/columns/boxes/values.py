"""Lists of boxes as people write them."""

from __future__ import annotations

from typing import Any

import numpy as np

from onetrunk.core.errors import BadValueError

Entry = tuple[str, list[float]]


def entries_of(value: Any) -> list[Entry]:
    """Label and box of every entry. Raises BadValueError."""
    if not isinstance(value, list | tuple):
        raise BadValueError(f"expected a list of boxes, found {type(value).__name__}")
    out = []
    for i, entry in enumerate(value):
        fields = entry if isinstance(entry, dict) else {}
        label, box = fields.get("label"), fields.get("box")
        if label is None or box is None or not _four_numbers(box):
            raise BadValueError(
                f'box {i} should be like {{"label": "cat", "box": [x, y, width, height]}}, found {str(entry)[:80]}'
            )
        out.append((str(label), [float(x) for x in box]))
    return out


def _four_numbers(box: Any) -> bool:
    if not isinstance(box, list | tuple | np.ndarray) or len(box) != 4:
        return False
    return all(isinstance(x, int | float | np.number) and np.isfinite(x) for x in box)


def usable_entries(value: Any) -> list[Entry]:
    """Entries of a size; none where the value is missing or bad."""
    try:
        return [(label, box) for label, box in entries_of(value or []) if min(box[2:]) > 0]
    except BadValueError:
        return []
