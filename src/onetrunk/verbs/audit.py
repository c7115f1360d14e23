"""audit: looks at a model from its worst side: whom it treats worse, what upsets it, what it gives away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onetrunk.training.options import AnswerOptions
from onetrunk.verbs.shared import takes

if TYPE_CHECKING:
    from onetrunk.evaluation.audit.record import Audit


@takes(
    AnswerOptions,
    "ask given map seed device allow_equal_rows max_bad allow_network missing separator lang out",
    helps={
        "ask": "the columns whose answers are audited; by default those of the model's task.",
        "given": "the columns to answer from; by default the task's.",
        "allow_equal_rows": "also judge fairness and robustness on rows that the model was trained on.",
        "seed": "the seed of all random numbers.",
        "lang": "the language of the page: en or zh.",
        "out": "a folder for audit.json and audit.html; by default the model's evidence/.",
    },
)
def audit(
    model: str,
    data: Any = None,
    options: AnswerOptions = AnswerOptions(),  # noqa: B008 - frozen
    *,
    sensitive: list[str] | str | None = None,
    what: list[str] | str | None = None,
    training: Any = None,
    canaries: Any = None,
    document: str | None = None,
    quiet: bool = False,
) -> Audit:
    """Look at a model from its worst side: fairness between groups, the worst slices of the rows, robustness, privacy
    of the training rows, security of the folder; and write audit.json and audit.html.

    Args:
        model: a model folder.
        data: rows with known answers: a file, folder, DataFrame, dataset, or hf://name; security alone needs none.
        sensitive: columns that rows are grouped by, for fairness; the model need not see them.
        what: fairness, slices, robustness, privacy, security, or several; by default all that can be done.
        training: the rows that the model learnt from, for privacy; those among the rows are recognised.
        canaries: a table of rows or secrets that were planted among the training rows, in the asked column; with a
            column planted (yes or no), of which a coin left out half, they also bound the epsilon of private training.
        document: also draft a document of what the folder knows, with a list of what a person must write: eu-annex-iv
            (technical documentation, EU AI Act) or cn-filing (filings in China, in Chinese).
        quiet: print nothing.

    Returns:
        The audit; `asked` holds what was found of each asked column, `security` what was found in the folder.

    Examples:
        onetrunk audit model data.csv --sensitive sex,age
        onetrunk audit model data.csv --what robustness,privacy
        onetrunk audit model --what security
        onetrunk audit model --document eu-annex-iv
    """
    from onetrunk.training.audit import run_audit
    from onetrunk.verbs.show import Printer

    sensitive, what = ([names] if isinstance(names, str) else names for names in (sensitive, what))
    return run_audit(
        model, data, options, Printer(quiet),
        what=what, sensitive=sensitive or [], training=training, canaries=canaries,
        document=document,
    )  # fmt: skip
