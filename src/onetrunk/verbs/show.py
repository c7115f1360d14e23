"""What verbs tell a person."""

from __future__ import annotations

from rich.console import Console


def console_for(quiet: bool) -> Console:
    """Where a verb tells a person what it does: standard error, so that results can be piped."""
    return Console(stderr=True, quiet=quiet, emoji=False)
