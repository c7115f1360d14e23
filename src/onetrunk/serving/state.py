"""What a decision is about, as rows of a model: JSON is a row, text the text column's value, pictures are pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onetrunk.core.encoder import FreeText
from onetrunk.serving.folders import Folder
from onetrunk.serving.request_errors import bad


@dataclass
class State:
    """Collected part by part, then made a table of one row."""

    where: str
    told: list[Mapping[str, Any]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    files: list[tuple[str, str | bytes]] = field(default_factory=list)  # kind of media, and a data URL or the bytes
    notes: list[str] = field(default_factory=list)

    def add_json(self, value: Any) -> None:
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, dict):
                raise bad(f"{self.where}: JSON should be an object, or a list of objects: columns and their values.")
            self.told.append(each)

    def rows_for(self, folder: Folder) -> list[dict[str, Any]]:
        """Raises RequestError where the model has no column for a part, or more than one."""
        rows = [dict(row) for row in self.told]
        if len(rows) > 1 and folder.model.events is None:  # parts of one row
            merged: dict[str, Any] = {}
            for row in rows:
                if twice := merged.keys() & row.keys():
                    raise bad(f"{self.where}: a decision is about one row; {sorted(twice)[0]!r} stands in it twice.")
                merged |= row
            rows = [merged]
        if not rows:
            rows = [{}]
        if self.texts:
            self._put(folder, rows, [name for name in folder.given() if _is_text(folder, name)], "some text",
                      ["\n".join(self.texts)])  # fmt: skip
        for kind in dict.fromkeys(kind for kind, _ in self.files):
            columns = [name for name in folder.columns_of_media(kind) if name in folder.given()]
            self._put(folder, rows, columns, kind, [url for each, url in self.files if each == kind])
        if not any(rows):
            raise bad(f"{self.where}: nothing is said. Expected {', '.join(folder.given())}.")
        return rows

    def _put(
        self, folder: Folder, rows: list[dict[str, Any]], columns: list[str], what: str, values: Sequence[str | bytes]
    ) -> None:
        """Into the columns of a kind that nothing else was said of."""
        free = [name for name in columns if not any(name in row for row in rows)]
        if len(values) > len(free) or (len(values) < len(free) and len(free) > 1):
            has = f"the columns {', '.join(free)} for it" if free else "no column for it"
            raise bad(
                f"{self.where}: there is {what} ({len(values)}), and the model {folder.name!r} has {has}. Send JSON "
                f"that names the columns: {', '.join(folder.given())}."
            )
        for row in rows:
            row.update(zip(free, values, strict=False))


def _is_text(folder: Folder, name: str) -> bool:
    return isinstance(folder.model.encoder(name), FreeText)
