"""Planted secrets: how much easier are they to guess, now that the model has learnt from them? (Carlini et al. 2019,
"The secret sharer", arXiv 1802.08232)

A canary is a text that holds digits: "my code is 4921". Training sees it once or several times; afterwards its loss is
compared with the same text of other digits. Exposure is log2 of the number of guesses that finding it needed before,
over those that it needs now: 0 bits for one like the others, log2 of all alternatives for one that is the likeliest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from onetrunk.core import rng
from onetrunk.core.errors import UsageError
from onetrunk.evaluation.audit.record import Canary

ALTERNATIVES = 1000
DIGIT = re.compile(r"[0-9]")

Losses = Callable[[Sequence[str]], np.ndarray]
"""Texts to the loss of each, in nats, float64 [n]."""


def make_canaries(template: str, count: int, digits: int = 6, seed: int = 0) -> list[str]:
    """Texts to plant: the template's `{}` becomes random digits, other ones in each text."""
    if template.count("{}") != 1 or digits < 1 or count > 10**digits:
        raise UsageError(
            "A template of canaries holds {} once, and there are no more canaries than its digits can tell apart; "
            f"found {template!r}, {digits} digits and {count:,} canaries."
        )
    return [template.replace("{}", secret) for secret in _secrets(rng.key(seed, "canaries"), count, digits)]


def alternatives(text: str, most: int = ALTERNATIVES, seed: int = 0) -> list[str]:
    """The text with other digits: all others where they are few, else that many drawn at random, no two alike."""
    places = [match.start() for match in DIGIT.finditer(text)]
    if not places:
        raise UsageError(f"A canary expects digits, which are its secret; found none in {text[:60]!r}.")
    own = "".join(text[i] for i in places)
    if 10 ** len(places) <= most + 1:
        others = [f"{k:0{len(places)}}" for k in range(10 ** len(places))]
        return [_with(text, places, other) for other in others if other != own]
    drawn = _secrets(rng.key(seed, text), most, len(places), own)
    return [_with(text, places, other) for other in drawn]


def _secrets(key: int, count: int, digits: int, but: str = "") -> list[str]:
    """So many texts of random digits, no two alike, and not `but`."""
    out: dict[str, None] = {}
    first = 0
    while len(out) < count:
        rows = rng.integers(rng.mix(key, np.arange(first, first + count)), 10, digits)
        out.update(dict.fromkeys(secret for row in rows.tolist() if (secret := "".join(map(str, row))) != but))
        first += count
    return list(out)[:count]


def _with(text: str, places: Sequence[int], digits: str) -> str:
    letters = list(text)
    for i, digit in zip(places, digits, strict=True):
        letters[i] = digit
    return "".join(letters)


def exposures(canaries: Sequence[str], losses: Losses, most: int = ALTERNATIVES, seed: int = 0) -> list[Canary]:
    """Of each canary. Alternatives that are as likely count half. A model that knows nothing of them gives 1.44 bits in
    the mean of many, 1 / ln 2: some canaries are likely by chance."""
    out = []
    for text in canaries:
        others = alternatives(text, most, seed)
        own, *rest = losses([text, *others]).tolist()
        rank = 1 + sum(loss < own for loss in rest) + sum(loss == own for loss in rest) / 2
        size = len(rest) + 1
        out.append(Canary(text, math.log2(size / rank), math.log2(size), len(rest)))
    return out
