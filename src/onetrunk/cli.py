"""The command line: one command a verb; flags, defaults and help come from the verbs' signatures and docstrings."""

from __future__ import annotations

import errno
import inspect
import os
import re
import signal
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from onetrunk import VERBS, __version__, verb
from onetrunk.core.errors import OnetrunkError, ResourceError, UsageError, is_out_of_memory
from onetrunk.core.terminal import ascii_json, escaped_json, json_line, printable

_OF_PATHS = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM)  # a path that nobody can use, or not you
_OUT_OF_MEMORY = (
    "Out of memory. Give fewer or shorter values (columns.NAME.length), take a smaller model (--size), smaller "
    "micro-batches (--set tokens_per_batch=4096), or a machine with more memory."
)
STOPPED = 128 + signal.SIGINT
_FLAGS = {"start": "--from", "settings": "--set"}  # where the flag's name is not a good name in Python


def main() -> None:
    """Runs a command; faults with a plain message exit with their code, bugs with 1 and a traceback."""
    try:
        with _together() as leads:
            if leads:
                _asked_for(sys.argv[1:])(standalone_mode=True, prog_name="onetrunk")  # also of `python -m onetrunk`
    except OnetrunkError as error:
        print(f"onetrunk: {_who()}{printable(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(
            f"onetrunk: {_who()}{_OUT_OF_MEMORY} ({printable(str(error).strip() or type(error).__name__)[:300]})",
            file=sys.stderr,
        )
        sys.exit(ResourceError.exit_code)
    except SystemExit as end:
        if end.code == STOPPED:  # Typer's answer to Ctrl-C, which is without a word
            print("onetrunk: stopped.", file=sys.stderr)
        raise
    except OSError as error:
        if error.errno not in _OF_PATHS:
            raise
        print(f"onetrunk: Cannot use {printable(str(error.filename)[:200])!r}: {error.strerror}.", file=sys.stderr)
        sys.exit(UsageError.exit_code)


@contextmanager
def _together() -> Iterator[bool]:
    """Inside, this process leads, or has lent rank 0 a hand until that had nothing more to do: of several that torchrun
    started, rank 0 runs the command."""
    own_part = any(word.partition("=")[0] == "--shard" for word in sys.argv)  # each process does its own, alone
    if own_part or int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        yield True
        return
    from onetrunk.engine import world

    if not world.launched():
        yield True
        return
    joined = world.join()
    try:
        if joined.rank:
            world.lend_a_hand(joined)
        yield joined.rank == 0
    finally:
        joined.leave()


def _who() -> str:
    """Of several processes, which one speaks."""
    return f"rank {os.environ.get('RANK')}: " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""


def _asked_for(words: Sequence[str]) -> typer.Typer:
    """The command line as far as these words need it: one verb, or the list of all, of which completion needs flags."""
    verb = next((word for word in words if not word.startswith("-")), None)
    completing = any(name.endswith("_COMPLETE") for name in os.environ)
    return _app([verb]) if verb in VERBS and not completing else _app(flags=completing)


def _app(verbs: Iterable[str] = VERBS, flags: bool = True) -> typer.Typer:
    """With `flags` every verb's flags, else only what it is for."""
    app = typer.Typer(
        name="onetrunk",
        help="Make a foundation model of your own data and put it to work.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback(invoke_without_command=True)
    def version(show: bool = typer.Option(False, "--version", "-V", help="print the version.")) -> None:
        if show:
            print(f"onetrunk {__version__}")
            raise typer.Exit

    for name in verbs:
        app.command(name, epilog=_documentation(verb(name))[2])(_command(verb(name)) if flags else _listed(verb(name)))
    return app


def _listed(verb: Callable[..., Any]) -> Callable[[], None]:
    """A verb as the list of all shows it."""

    def command() -> None:
        raise AssertionError("a verb that is called has its flags")

    command.__doc__ = _documentation(verb)[0]
    return command


def _command(verb: Callable[..., Any]) -> Callable[..., None]:
    """A verb as a command: positional parameters are arguments, the others flags; what it returns is shown."""
    signature = inspect.signature(verb)
    hints = _hints(verb, signature)
    summary, helps, _ = _documentation(verb)
    parameters = [_parameter(p, hints[p.name], helps.get(p.name, "")) for p in signature.parameters.values()]
    json_flag = inspect.Parameter(
        "as_json",
        inspect.Parameter.KEYWORD_ONLY,
        annotation=bool,
        default=typer.Option(False, "--json", help="print only the result, as JSON."),
    )

    def command(as_json: bool, **values: Any) -> None:
        for name, parameter in signature.parameters.items():
            values[name] = _value(name, values[name], hints[name])
            if parameter.kind == inspect.Parameter.KEYWORD_ONLY and values[name] == []:
                values[name] = None
        if as_json and "quiet" in values:
            values["quiet"] = True
        if not values.get("quiet", as_json):
            _begin(values[name] for name, p in signature.parameters.items() if p.kind != inspect.Parameter.KEYWORD_ONLY)
        result = verb(**values)
        _print(lambda: _show(result, as_json))

    command.__signature__ = inspect.Signature([*parameters, json_flag])  # type: ignore[attr-defined]  # typer reads it
    command.__doc__ = summary
    command.__annotations__ = {p.name: p.annotation for p in [*parameters, json_flag]}
    return command


def _begin(sources: Iterable[Any]) -> None:
    """Says at once what is being opened: importing PyTorch takes seconds on a busy machine."""
    names = [printable(str(source)) for source in sources if source is not None and os.path.exists(str(source))]
    if names:
        print(f"Reading {' and '.join(names)} ...", file=sys.stderr, flush=True)


def _print(show: Callable[[], None]) -> None:
    """Prints a result, all of it; ends where whoever read it has gone (`| head`), or the disk is full."""
    try:
        show()
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer goes there at the end
        if error.errno == errno.EPIPE:
            sys.exit(141)
        raise ResourceError(f"The result cannot be printed: {error.strerror}.") from None


def _hints(verb: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    """The parameters' types. That of the result may be one that only a type checker imports."""
    bare = types.SimpleNamespace(__annotations__={p.name: p.annotation for p in signature.parameters.values()})
    return typing.get_type_hints(bare, vars(sys.modules[verb.__module__]))


def _parameter(parameter: inspect.Parameter, hint: Any, text: str) -> inspect.Parameter:
    kind = _plain(hint)
    flag = _FLAGS.get(parameter.name, "--" + parameter.name.replace("_", "-"))
    if parameter.kind != inspect.Parameter.KEYWORD_ONLY:
        required = parameter.default is inspect.Parameter.empty
        default = typer.Argument(... if required else parameter.default, help=text)
        kind = str if hint is Any else kind
    else:
        required = parameter.default is inspect.Parameter.empty
        default = typer.Option(
            ... if required else parameter.default,
            flag,
            help=text,
            show_default=not required,
            metavar=_metavar(parameter.name, hint),
        )
    return parameter.replace(annotation=kind, default=default, kind=inspect.Parameter.KEYWORD_ONLY)


def _metavar(name: str, hint: Any) -> str | None:
    """How a value that is several is written; None where the type says it."""
    if "dict" in str(hint):
        return "NAME=VALUE,..."
    if "list" in str(hint):
        return "KEY=VALUE" if name == "settings" else "NAME,..."
    return None


def _plain(hint: Any) -> Any:
    """The type a flag has: lists and mappings are repeated text, optional ones may be left out."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        inner = next(a for a in typing.get_args(hint) if a is not type(None))
        inner = _plain(inner)
        return inner if typing.get_origin(inner) is list else inner | None
    if hint is Any:
        return str | None
    if typing.get_origin(hint) in (list, dict):
        return list[str]
    return hint


def _value(name: str, value: Any, hint: Any) -> Any:
    """`a,b` is two values of a list; `key=value,key=value` two entries of a mapping. A name that holds a comma or an
    equals sign stands in double quotes."""
    if not isinstance(value, list | tuple):
        return value
    if "dict" in str(hint):
        return dict(_pair(name, pair) for v in value for pair in _entries(v, "=,", 2))
    if name == "settings":
        return list(value)
    return [part for v in value for (part,) in _entries(v, ",", 1)]


def _entries(text: str, separators: str, most: int) -> Iterator[list[str]]:
    """Comma-separated entries, each of at most so many fields; empty ones are passed over."""
    from onetrunk.core.config import take_part

    while text.strip():
        entry: list[str] = []
        sign = "="
        while sign == "=":
            part, sign, text = take_part(text, separators if len(entry) + 1 < most else ",")
            entry.append(part.strip())
        if entry != [""]:
            yield entry


def _pair(name: str, entry: list[str]) -> tuple[str, str]:
    if len(entry) != 2 or not all(entry):
        raise UsageError(f"--{name} expects name=value, found {'='.join(entry)!r}.")
    return entry[0], entry[1]


def _documentation(verb: Callable[..., Any]) -> tuple[str, dict[str, str], str]:
    """Its summary, a sentence for each parameter, and its examples."""
    text, _, examples = (inspect.getdoc(verb) or "").partition("\n\nExamples:\n")
    summary, _, rest = text.partition("\n\nArgs:\n")
    arguments = rest.partition("\n\nReturns:")[0]
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    epilog = "\n\n".join(["Examples:", *lines])
    summary = re.sub(r"(?<!\n)\n(?!\n)", " ", summary)  # a paragraph is one line, which the terminal breaks
    arguments = re.sub(r"(DataFrame|dataset), ", "", arguments)  # which only Python has
    return summary, dict(re.findall(r"^\s*(\w+): (.*)$", arguments, re.MULTILINE)), epilog


def _show(result: Any, as_json: bool) -> None:
    """What a verb returns, for a machine or a person. Models were saved and say so themselves."""
    import base64

    if hasattr(result, "to_json"):  # a DataFrame
        if as_json:
            result = result.map(lambda v: base64.b64encode(v).decode() if isinstance(v, bytes) else v)
            _print_json(escaped_json(result.to_json(orient="records", lines=True, force_ascii=False)))
        elif len(result):
            table = result.head(20).map(lambda v: f"{len(v):,} bytes; see --out" if isinstance(v, bytes) else v)
            print(printable(table.to_string()))
            if len(result) > 20:
                print(f"... {len(result):,} rows; --out FILE keeps them all.")
    elif as_json:
        plain = result.as_json() if hasattr(result, "as_json") else result
        _print_json(json_line(plain) + "\n")


def _print_json(text: str) -> None:
    """As it is where the terminal or file can hold it, else with JSON's own escapes."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = ascii_json(text)
    sys.stdout.write(text)
