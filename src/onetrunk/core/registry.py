"""A kind of part is a package; each part is one file in it, found by its name and loaded on first use."""

from __future__ import annotations

import importlib
import pkgutil

from onetrunk.core.errors import unknown


class Registry:
    """Names are the module names in `package`; the part is the module's attribute `attribute`."""

    def __init__(self, kind: str, package: str, attribute: str) -> None:
        self.kind, self.package, self.attribute = kind, package, attribute

    def names(self) -> list[str]:
        path = importlib.import_module(self.package).__path__
        return sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_"))

    def get(self, name: str) -> type:
        if name not in self.names():
            raise unknown(self.kind, name, self.names())
        return getattr(importlib.import_module(f"{self.package}.{name}"), self.attribute)


column_types = Registry("column type", "onetrunk.columns", "CODEC")
objectives = Registry("objective", "onetrunk.objectives", "OBJECTIVE")
