"""What a privately trained model promises, in sentences; and what it does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onetrunk.evaluation.language import called, say
from onetrunk.evaluation.words import joined


def promise_of(provenance: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the model's last stage promises (epsilon, delta, ...), and which stages `without` privacy came before it.
    None where the last stage is not private."""
    stages = provenance.get("stages", [])
    if not stages or "private" not in stages[-1]:
        return None
    return {**stages[-1]["private"], "without": [each["stage"] for each in stages if "private" not in each]}


def promise_sentences(promise: Mapping[str, Any] | None) -> list[str]:
    """Nothing of a model that promises nothing."""
    if promise is None:
        return []
    out = [
        say(
            "It was trained with differential privacy: ε = {epsilon:.2f} at δ = {delta:.2g}, between tables of which "
            "one has a row more.",
            epsilon=promise["epsilon"],
            delta=promise["delta"],
        ),
        say(
            "Every row's gradient was scaled down to a norm of at most {clip:g}, and noise of {noise:.3g} times that "
            "was added in each of {steps:,} steps, which took each row with a probability of {rate:.3g}.",
            clip=promise["clip"],
            noise=promise["noise"],
            steps=promise["steps"],
            rate=promise["rate"],
        ),
        say("The promise is made to rows: of a person who has several rows it holds less."),
        say(
            "It does not cover what vocabularies, names of classes and scales say of the training rows, the counts of "
            "rows and of repaired values, and anything measured on held-out rows or shown of them."
        ),
    ]
    if promise["without"]:
        sentence = "Nor does it cover rows of the stages that were trained without it: {stages}."
        out.append(say(sentence, stages=joined([called(stage) for stage in promise["without"]])))
    return out
