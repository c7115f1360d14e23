"""Does a model write training texts to their end, word for word? It is given their beginning (Carlini et al., arXiv
2202.07646); beside it stands how often it does so with texts that it has never seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onetrunk.evaluation.audit.record import Repetition
from onetrunk.evaluation.intervals import wilson

MAX_ROWS = 200  # texts of each kind
_LENGTHS = (50, 20, 10)  # characters that are given, and as many that are compared
_ENOUGH = 20  # texts of that length
_EXAMPLES = 5

Write = Callable[[Sequence[str], int], Sequence[str]]
"""Beginnings and a number of characters, to what the model writes after each of them, at least so long."""


def repetition(learnt: Sequence[str], others: Sequence[str], write: Write) -> Repetition | None:
    """The share of texts, learnt and not, whose next characters are written as they stand. None where too few are long
    enough."""
    for length in _LENGTHS:
        long = [[text for text in texts if len(text) >= 2 * length][:MAX_ROWS] for texts in (learnt, others)]
        if min(map(len, long)) >= _ENOUGH:
            break
    else:
        return None
    same = [_repeated(texts, length, write) for texts in long]
    counts = [wilson(float(sum(each)), len(each)) for each in same]
    examples = [text[: 2 * length] for text, is_same in zip(long[0], same[0], strict=True) if is_same][:_EXAMPLES]
    return Repetition(counts[0], counts[1], len(long[0]), len(long[1]), length, length, examples)


def _repeated(texts: Sequence[str], length: int, write: Write) -> list[bool]:
    written = write([text[:length] for text in texts], length)
    return [after[:length] == text[length : 2 * length] for text, after in zip(texts, written, strict=True)]
