"""Registries of column types, objectives and methods of explanation: each is a module of a package, found by name and
loaded on first use.

Other people's packages bring more: column types by the entry point group `onetrunk.columns`, objectives by
`onetrunk.objectives`, methods of explanation by `onetrunk.explanation.methods`. The name of the entry point is the
part's name, its value the module that holds it.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from functools import cache, cached_property
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from onetrunk.core.errors import unknown

if TYPE_CHECKING:
    from onetrunk.core.encoder import Encoder
    from onetrunk.core.evaluation import Evaluation
    from onetrunk.core.module import ColumnModule

P = TypeVar("P")


class Registry(ABC, Generic[P]):
    """The parts in `package`, by their module names, and those of the entry point group of the same name."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package

    def modules(self) -> dict[str, str]:
        """Name to the module that holds it, in order."""
        modules = _modules_in(tuple(importlib.import_module(self.package).__path__))
        own = {m.name: f"{self.package}.{m.name}" for m in modules if self._is_part(m)}
        return dict(sorted({**_installed(self.package), **own}.items()))

    def names(self) -> list[str]:
        return list(self.modules())

    def get(self, name: str) -> P:
        modules = self.modules()
        if not isinstance(name, str) or name not in modules:  # a name of a settings file may be anything
            raise unknown(self.kind, str(name), modules)
        return self._load(name, modules[name])

    def _is_part(self, module: pkgutil.ModuleInfo) -> bool:
        return not module.name.startswith("_")

    @abstractmethod
    def _load(self, name: str, module: str) -> P: ...


class Classes(Registry[type]):
    """Parts that are one class each: the module's attribute `attribute`."""

    def __init__(self, kind: str, package: str, attribute: str) -> None:
        super().__init__(kind, package)
        self.attribute = attribute

    def _load(self, name: str, module: str) -> type:
        return getattr(importlib.import_module(module), self.attribute)


class ColumnType:
    """A column type's three sides, each imported when it is first asked for: the data side needs no torch.

    The module of the type names them: `ENCODER`, `MODULE` and `EVALUATION`, each "package.module:Class".
    """

    def __init__(self, name: str, module: str) -> None:
        self.name, self.module_name = name, module

    @cached_property
    def encoder(self) -> type[Encoder]:
        return self._side("ENCODER")

    @cached_property
    def module(self) -> type[ColumnModule[Any]]:
        return self._side("MODULE")

    @cached_property
    def evaluation(self) -> type[Evaluation[Any]]:
        return self._side("EVALUATION")

    def _side(self, attribute: str) -> Any:
        module, _, name = getattr(importlib.import_module(self.module_name), attribute).partition(":")
        return getattr(importlib.import_module(module), name)


class ColumnTypes(Registry[ColumnType]):
    """Each type is a folder; what types share stands in `families`."""

    def _is_part(self, module: pkgutil.ModuleInfo) -> bool:
        return super()._is_part(module) and module.name != "families"

    def _load(self, name: str, module: str) -> ColumnType:
        return _column_type(name, module)


@cache
def _column_type(name: str, module: str) -> ColumnType:
    return ColumnType(name, module)


@cache
def _modules_in(path: tuple[str, ...]) -> list[pkgutil.ModuleInfo]:
    """Folders are looked into once: a table of thousands of columns asks for types very often."""
    return list(pkgutil.iter_modules(path))


@cache
def _installed(group: str) -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=group)}


column_types = ColumnTypes("column type", "onetrunk.columns")
objectives = Classes("objective", "onetrunk.objectives", "OBJECTIVE")
explanations = Classes("method of explanation", "onetrunk.explanation.methods", "METHOD")
