"""Text from outside as literal Markdown."""

from __future__ import annotations

import html
import re

from onetrunk.evaluation.words import plain

_SPECIAL = re.compile(r"([\\`*_\[\]|~$]|^(?:[#+>-]|\d+(?=[.)])))")


def literal(text: object) -> str:
    """One line: no HTML, no markup."""
    line = " ".join(plain(str(text)).split())
    return html.escape(_SPECIAL.sub(_backslashed, line), quote=False)


def _backslashed(match: re.Match[str]) -> str:
    character = match[1]
    return f"{character}\\" if character.isdigit() else f"\\{character}"  # 1. begins a list, 1\. does not
