"""What an audit found, in plain sentences: on the screen and at the top of the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from onetrunk.evaluation.audit.record import (
    Adversary,
    AskedAudit,
    Audit,
    Fairness,
    GroupMetric,
    Mitigation,
    OneRun,
    Privacy,
    Robustness,
    Security,
    Slices,
)
from onetrunk.evaluation.audit.robustness import severity_in_words
from onetrunk.evaluation.intervals import Interval
from onetrunk.evaluation.words import amount, lead, span, word

_BITS_BY_CHANCE = 1.44  # of exposure, in the mean: 1 / ln 2


def summary(audit: Audit) -> list[str]:
    """The most important sentence of each part."""
    out = []
    for asked in audit.asked:
        out += [by_group(asked, fairness) for fairness in asked.fairness]
        out += [worst(asked, asked.slices)] if asked.slices is not None else []
        out += [weakest(asked)] if asked.robustness else []
        out += [withstood(asked, asked.adversary)] if asked.adversary is not None else []
        out += [f"{asked.ask}: {sentence}" for sentence in private(asked.privacy)] if asked.privacy else []
    return out + ([secure(audit.security)] if audit.security is not None else [])


# -- fairness ------------------------------------------------------------------------------------------------
def by_group(asked: AskedAudit, fairness: Fairness) -> str:
    """The gaps that chance does not explain, the widest first."""
    gaps = [metric for metric in fairness.metrics if metric.gap is not None]
    name = f"{asked.ask} by {fairness.column}"
    if not gaps:
        return f"{name}: no two groups have enough rows to be compared."
    wide = sorted((m for m in gaps if m.gap is not None and not m.gap.is_chance), key=_width, reverse=True)
    if not wide:
        return f"{name}: no gap between groups is larger than chance gives."
    rest = f" {len(wide) - 1} more of {len(gaps)} gaps are larger than chance gives." if len(wide) > 1 else ""
    return f"{name}: {gap_sentence(wide[0])}{rest}"


def _width(metric: GroupMetric) -> float:
    """Of gaps, shares before others: what is in other units cannot be compared."""
    assert metric.gap is not None
    share = word(metric.name).kind == "share"
    return metric.gap.value.value if share else min(metric.gap.value.value, 0.0)


def gap_sentence(metric: GroupMetric) -> str:
    gap = metric.gap
    if gap is None:
        return "fewer than two groups have enough rows to be compared."
    of = f" of {metric.of}" if metric.of else ""
    how = "no more than chance gives" if gap.is_chance else "more than chance gives"
    p = f"p {gap.p:.3f}" if gap.p >= 0.002 else "p .001 or less"
    values = {figure.group: figure.value for figure in metric.groups}
    high, low = values[gap.high], values[gap.low]
    assert high is not None and low is not None
    return (
        f"{_lowered(word(metric.name).label)}{of} is {amount(metric.name, high.value)} for {gap.high} and "
        f"{amount(metric.name, low.value)} for {gap.low}, a gap of {points(metric.name, gap.value)}, {how} ({p})."
    )


def mitigation_sentence(mitigation: Mitigation) -> str:
    rate = _lowered(word(mitigation.equal).label)
    judged = f" Measured on {mitigation.judged}, not on the model itself." if mitigation.judged else ""
    return (
        f"{mitigation.how[:1].upper()}{mitigation.how[1:]}: the gap of the {rate} of {mitigation.of} goes from "
        f"{points(mitigation.equal, mitigation.gap_before)} to {points(mitigation.equal, mitigation.gap_after)}; "
        f"accuracy, {amount('accuracy', mitigation.accuracy_before.value)}, changes by "
        f"{lead('accuracy', mitigation.accuracy_change)}. Learnt on {mitigation.fitted_on:,} rows, measured on "
        f"{mitigation.rows:,} others.{judged}"
    )


def worst(asked: AskedAudit, found: Slices) -> str:
    """Of the slices the worst, and whether chance explains it."""
    label = _lowered(word(asked.metric).label)
    if not found.worst:
        return f"{asked.ask}: there are no slices of 30 rows or more to compare."
    first = found.worst[0]
    clear = [each for each in found.worst if each.behind > found.by_chance]
    where = f"{first.column} is {first.group}" if first.group != "missing" else f"{first.column} is missing"
    figures = (
        f"{label} is {amount(asked.metric, first.score.value)} ({span(asked.metric, first.score)}) on the "
        f"{first.rows:,} rows where {where}, and {amount(asked.metric, first.elsewhere)} on the others"
    )
    if not clear:
        return f"{asked.ask}: of {found.tried:,} slices the worst is no worse than chance gives: {figures}."
    more = f" {len(clear) - 1} more are worse than chance gives." if len(clear) > 1 else ""
    return f"{asked.ask}: the worst of {found.tried:,} slices: {figures}.{more}"


# -- robustness ----------------------------------------------------------------------------------------------
def weakest(asked: AskedAudit) -> str:
    """What costs most."""
    most = max(asked.robustness, key=lambda each: max((s.lost.value for s in each.steps if s.lost), default=-1e30))
    step = max(most.steps, key=lambda s: s.lost.value if s.lost else -1e30)
    if step.lost is None or step.score is None or step.lost.low <= 0:
        return f"{asked.ask}: nothing that was done to what is given made answers clearly worse."
    return (
        f"{asked.ask}: {_where(most)} cost most: with {severity_in_words(most, step.severity)}, "
        f"{_lowered(word(asked.metric).label)} is {amount(asked.metric, step.score.value)} instead of "
        f"{amount(asked.metric, asked.undisturbed.value) if asked.undisturbed else 'undefined'}, "
        f"{points(asked.metric, step.lost)} worse."
    )


def _where(found: Robustness) -> str:
    return f"{found.name} in {found.column}" if found.column else found.name


def withstood(asked: AskedAudit, found: Adversary) -> str:
    furthest = found.shifts[-1]
    note = f" {found.note}" if found.note else ""
    return (
        f"{asked.ask}: of {found.rows:,} rows {amount('accuracy', found.unmoved.value)} have the true class above one "
        f"half; moved against it by {100 * furthest.share:g} % of the length of their embeddings, "
        f"{amount('accuracy', furthest.against.value)} do ({span('accuracy', furthest.against)}), and moved as far "
        f"anywhere, {amount('accuracy', furthest.anywhere.value)}.{note}"
    )


# -- privacy -------------------------------------------------------------------------------------------------
def bound_beside_promise(bound: OneRun, promise: Mapping[str, Any] | None) -> str:
    """What one run shows of epsilon, beside what the accountant says."""
    shown = (
        f"of {bound.canaries:,} planted or left-out rows, {bound.right:,} of {bound.guesses:,} guesses were right: "
        f"epsilon is above {bound.epsilon:.2f} at delta {bound.delta:.2g}, with a confidence of "
        f"{100 * bound.confidence:.0f} %"
    )
    if promise is None:
        return f"{shown}; the model promises no epsilon."
    kept = "which it keeps" if bound.epsilon <= promise["epsilon"] else "WHICH IT BREAKS: something is wrong"
    return f"{shown}; {_promised(promise)}, {kept}."


def _promised(promise: Mapping[str, Any]) -> str:
    return f"the accountant says that epsilon is at most {promise['epsilon']:.2f} at delta {promise['delta']:.2g}"


def private(found: Privacy) -> Iterator[str]:
    if found.note:
        yield found.note
    if found.membership is not None:
        for attack in found.membership.attacks:
            works = "works" if attack.works else "does no better than chance"
            yield (
                f"telling training rows by their {attack.score} {works}: AUC {amount('auc', attack.auc.value)} "
                f"({span('auc', attack.auc)}; by chance up to {amount('auc', attack.auc_by_chance)}); at 1 % false "
                f"alarms it finds {amount('accuracy', attack.tpr.value)} of them ({span('accuracy', attack.tpr)}; by "
                f"chance up to {amount('accuracy', attack.tpr_by_chance)})."
            )
    if found.canaries:
        bits = sorted(canary.exposure for canary in found.canaries)
        mean = sum(bits) / len(bits)
        top = sum(canary.exposure >= canary.most - 1e-9 for canary in found.canaries)
        yield (
            f"{len(bits)} planted secrets have an exposure of {mean:.1f} bits in the mean ({bits[0]:.1f} to "
            f"{bits[-1]:.1f}; {_BITS_BY_CHANCE} for a model that knows nothing of them); {top} of them "
            f"{'is' if top == 1 else 'are'} more likely than every alternative."
        )
    if found.one_run is not None:
        yield bound_beside_promise(found.one_run, found.promise)
    elif found.promise is not None:
        yield f"{_promised(found.promise)}; it was not tested with planted rows."
    if found.repetition is not None:
        r = found.repetition
        yield (
            f"given {r.prompt} characters, it writes the next {r.compared} word for word for "
            f"{amount('accuracy', r.learnt.value)} ({span('accuracy', r.learnt)}) of {r.learnt_rows:,} training texts, "
            f"and for {amount('accuracy', r.others.value)} ({span('accuracy', r.others)}) of {r.other_rows:,} others."
        )


# -- security ------------------------------------------------------------------------------------------------
def secure(found: Security) -> str:
    serious = [finding for finding in found.findings if finding.serious]
    held = f"The folder holds {found.files:,} files, {found.digests:,} of them with the digest of the manifest"
    if not serious:
        rest = len(found.findings)
        also = f" {rest} thing{'s' if rest != 1 else ''} may be worth a look." if rest else ""
        return f"{held}; no code, no pickles and no secrets were found.{also}"
    first = serious[0]
    more = f", and {len(serious) - 1} more" if len(serious) > 1 else ""
    return f"{held}. Found: {first.file}, {first.what}{more}."


# -- pieces --------------------------------------------------------------------------------------------------
def _lowered(label: str) -> str:
    return label[:1].lower() + label[1:] if label[1:2].islower() else label


def points(metric: str, interval: Interval) -> str:
    """A difference: `21.4 points (18.3 to 24.4)`"""
    value, ends = amount(metric, interval.value), span(metric, interval)
    return f"{_as_points(value)} ({ends.removesuffix(' %')})"


def _as_points(text: str) -> str:
    return f"{text.removesuffix(' %')} points" if text.endswith(" %") else text
