"""Shared options of verbs: a verb names those that it takes, and gets them as one object.

    @takes(TrainingOptions, "ask given ...", ask=REQUIRED)
    def finetune(data: Any, options: TrainingOptions, *, freeze: str | None = None) -> Model:

is called as `finetune(data, ask=["label"], freeze="trunk")`. Its signature and its documentation show every option, so
that the command line and `help()` know them.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from onetrunk.core.errors import nearest

if TYPE_CHECKING:
    from onetrunk.core.events import Listener
    from onetrunk.training.options import TrainingOptions

T = TypeVar("T")
REQUIRED: Any = inspect.Parameter.empty


def takes(
    options: type, names: str, helps: dict[str, str] | None = None, **defaults: Any
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """A verb's decorator. `names`: the fields of the class `options` that it takes. Another default than the class's is
    a keyword here, another sentence of help in `helps`. Every verb takes `quiet`."""

    def decorate(verb: Callable[..., T]) -> Callable[..., T]:
        own = inspect.signature(verb)
        hints = _hints(options)
        help_of = {name: hint.__metadata__[0] for name, hint in hints.items()} | (helps or {})
        shared = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(field.name, field.default),
                annotation=_as_told(typing.get_args(hints[field.name])[0]),
            )
            for field in fields(options)
            if field.name in names.split()
        ]
        positional = [p for p in own.parameters.values() if p.kind != inspect.Parameter.KEYWORD_ONLY]
        rest = [p for p in own.parameters.values() if p.kind == inspect.Parameter.KEYWORD_ONLY]
        positional = [p for p in positional if p.name != "options"]
        quiet = [p for p in rest if p.name == "quiet"]
        signature = own.replace(parameters=[*positional, *shared, *(p for p in rest if p not in quiet), *quiet])

        @functools.wraps(verb)
        def called(*args: Any, **keywords: Any) -> T:
            _refuse_unknown(verb.__name__, signature, keywords)
            bound = signature.bind(*args, **keywords)
            bound.apply_defaults()
            values = bound.arguments
            chosen = options(**{p.name: values.pop(p.name) for p in shared})
            first = [values.pop(p.name) for p in positional]
            return verb(*first, chosen, **values)

        called.__signature__ = signature  # type: ignore[attr-defined]
        called.__annotations__ = {**verb.__annotations__, **{p.name: p.annotation for p in shared}}
        called.__annotations__.pop("options", None)
        called.__doc__ = _documented(verb, [(p.name, help_of[p.name]) for p in shared])
        return called

    return decorate


def tracking(listener: Listener, options: TrainingOptions) -> AbstractContextManager[Listener]:
    """The listener of a run, with a tracker beside it where one is named (`onetrunk.trackers`)."""
    from onetrunk.trackers import tracked
    from onetrunk.training.recipe import recipe_of

    settings = {} if options.track is None else {**vars(options), "recipe": recipe_of(options).model_dump(mode="json")}
    hidden = ("settings", "track")
    settings = {name: value for name, value in settings.items() if value is not None and name not in hidden}
    return tracked(listener, options.track, options.out, settings, options.allow_network)


@functools.cache
def _hints(options: type) -> dict[str, Any]:
    return typing.get_type_hints(options, include_extras=True)


def _as_told(hint: Any) -> Any:
    """An option's type as it may be given: a single name stands for a list of one."""
    return list[str] | str | None if hint == list[str] | None else hint


def _refuse_unknown(verb: str, signature: inspect.Signature, keywords: dict[str, Any]) -> None:
    """A TypeError, as of any Python function, that names the nearest keyword."""
    for name in keywords:
        if name not in signature.parameters:
            raise TypeError(
                f"{verb}() got an unexpected keyword argument {name!r}.{nearest(name, signature.parameters)}"
            )


def _documented(verb: Callable[..., Any], shared: list[tuple[str, str]]) -> str:
    """The verb's documentation, with a line for each shared option."""
    text = inspect.getdoc(verb) or ""
    before, args, after = text.partition("\nArgs:\n")
    lines, returns, rest = after.partition("\nReturns:")
    own = [line for line in lines.splitlines() if line.strip()]
    lines = "\n".join([*own, *(f"    {name}: {sentence}" for name, sentence in shared)])
    return f"{before}{args or chr(10) + 'Args:' + chr(10)}{lines}\n{returns}{rest}"
