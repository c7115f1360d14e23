"""What an audit found, in plain sentences: on the screen and at the top of the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from onetrunk.evaluation.audit.record import (
    Adversary,
    AskedAudit,
    Audit,
    Copies,
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
from onetrunk.evaluation.language import begun, called, say
from onetrunk.evaluation.words import amount, lead, span, word

_BITS_BY_CHANCE = 1.44  # of exposure, in the mean: 1 / ln 2
_OF_NUMBERS = set("0123456789+-.:eE/ T")


def summary(audit: Audit) -> list[str]:
    """The most important sentence of each part."""
    out = []
    for asked in audit.asked:
        out += [by_group(asked, fairness) for fairness in asked.fairness]
        out += [worst(asked, asked.slices)] if asked.slices is not None else []
        out += [weakest(asked)] if asked.robustness else []
        out += [withstood(asked, asked.adversary)] if asked.adversary is not None else []
        out += (
            [say("{name}: {rest}", name=asked.ask, rest=each) for each in private(asked.privacy)]
            if asked.privacy
            else []
        )
    return out + ([secure(audit.security)] if audit.security is not None else [])


# -- fairness ------------------------------------------------------------------------------------------------
def by_group(asked: AskedAudit, fairness: Fairness) -> str:
    """The gaps that chance does not explain, the widest first."""
    gaps = [metric for metric in fairness.metrics if metric.gap is not None]
    name = say("{ask} by {column}", ask=asked.ask, column=fairness.column)
    if not gaps:
        return say("{name}: {rest}", name=name, rest=say("no two groups have enough rows to be compared."))
    wide = sorted((m for m in gaps if m.gap is not None and not m.gap.is_chance), key=_width, reverse=True)
    if not wide:
        return say("{name}: {rest}", name=name, rest=say("no gap between groups is larger than chance gives."))
    sentence = say("{name}: {rest}", name=name, rest=gap_sentence(wide[0]))
    if len(wide) > 1:
        sentence += say(" {n} more of {all} gaps are larger than chance gives.", n=len(wide) - 1, all=len(gaps))
    return sentence


def _width(metric: GroupMetric) -> float:
    """Of gaps, shares before others: what is in other units cannot be compared."""
    assert metric.gap is not None
    share = word(metric.name).kind == "share"
    return metric.gap.value.value if share else min(metric.gap.value.value, 0.0)


def gap_sentence(metric: GroupMetric) -> str:
    gap = metric.gap
    if gap is None:
        return say("fewer than two groups have enough rows to be compared.")
    values = {figure.group: figure.value for figure in metric.groups}
    high, low = values[gap.high], values[gap.low]
    assert high is not None and low is not None
    return say(
        "{label} is {high} for {best} and {low} for {least}, a gap of {gap}, {how} ({p}).",
        label=_of(metric.name, metric.of),
        high=amount(metric.name, high.value),
        best=group_name(gap.high),
        low=amount(metric.name, low.value),
        least=group_name(gap.low),
        gap=points(metric.name, gap.value),
        how=say("no more than chance gives") if gap.is_chance else say("more than chance gives"),
        p=f"p {gap.p:.3f}" if gap.p >= 0.002 else say("p .001 or less"),
    )


def _of(metric: str, name: str) -> str:
    label = _lowered(word(metric).label)
    return say("{label} of {ask}", label=label, ask=name) if name else label


def mitigation_sentence(mitigation: Mitigation) -> str:
    how = called(mitigation.how)
    sentence = say(
        "{how}: the gap of the {rate} goes from {before} to {after}; accuracy, {accuracy}, changes by {change}. "
        "Learnt on {learnt:,} rows, measured on {rows:,} others.",
        how=begun(how),
        rate=_of(mitigation.equal, mitigation.of),
        before=points(mitigation.equal, mitigation.gap_before),
        after=points(mitigation.equal, mitigation.gap_after),
        accuracy=amount("accuracy", mitigation.accuracy_before.value),
        change=lead("accuracy", mitigation.accuracy_change),
        learnt=mitigation.fitted_on,
        rows=mitigation.rows,
    )
    if mitigation.judged:
        sentence += say(" Measured on {model}, not on the model itself.", model=called(mitigation.judged))
    return sentence


def worst(asked: AskedAudit, found: Slices) -> str:
    """Of the slices the worst, and whether chance explains it."""
    label = _lowered(word(asked.metric).label)
    if not found.worst:
        rest = say("there are no slices of 30 rows or more to compare.")
        if found.tried:
            rest = say("all of {tried:,} slices fare alike.", tried=found.tried)
        return say("{name}: {rest}", name=asked.ask, rest=rest)
    first = found.worst[0]
    clear = [each for each in found.worst if each.behind > found.by_chance]
    column = called(first.column)
    if first.group == "missing":
        where = say("{column} is missing", column=column)
    else:
        where = say("{column} is {group}", column=column, group=group_name(first.group))
    figures = say(
        "{label} is {value} ({span}) on the {rows:,} rows where {where}, and {elsewhere} on the others",
        label=label,
        value=amount(asked.metric, first.score.value),
        span=span(asked.metric, first.score),
        rows=first.rows,
        where=where,
        elsewhere=amount(asked.metric, first.elsewhere),
    )
    parts = {"name": asked.ask, "tried": found.tried, "figures": figures}
    if not clear:
        return say("{name}: of {tried:,} slices the worst is no worse than chance gives: {figures}.", **parts)
    more = say(" {n} more are worse than chance gives.", n=len(clear) - 1) if len(clear) > 1 else ""
    return say("{name}: the worst of {tried:,} slices: {figures}.", **parts) + more


def group_name(group: str) -> str:
    """A group as its rows name it; of quarters, from where to where."""
    low, between, high = group.partition(" to ")
    if between and all(set(end) <= _OF_NUMBERS for end in (low, high)):
        return say("{low} to {high}", low=low, high=high)
    return group


# -- robustness ----------------------------------------------------------------------------------------------
def weakest(asked: AskedAudit) -> str:
    """What costs most."""
    most = max(asked.robustness, key=lambda each: max((s.lost.value for s in each.steps if s.lost), default=-1e30))
    step = max(most.steps, key=lambda s: s.lost.value if s.lost else -1e30)
    if step.lost is None or step.score is None or step.lost.low <= 0:
        rest = say("nothing that was done to what is given made answers clearly worse.")
        return say("{name}: {rest}", name=asked.ask, rest=rest)
    return say(
        "{name}: {what} cost most: with {severity}, {label} is {value} instead of {before}, {lost} worse.",
        name=asked.ask,
        what=_where(most),
        severity=severity_in_words(most, step.severity),
        label=_lowered(word(asked.metric).label),
        value=amount(asked.metric, step.score.value),
        before=amount(asked.metric, asked.undisturbed.value if asked.undisturbed else None),
        lost=points(asked.metric, step.lost),
    )


def _where(found: Robustness) -> str:
    name = called(found.name)
    return say("{name} in {column}", name=name, column=found.column) if found.column else name


def withstood(asked: AskedAudit, found: Adversary) -> str:
    furthest = found.shifts[-1]
    sentence = say(
        "{name}: of {rows:,} rows {unmoved} have the true class above one half; moved against it by {share:g} % of "
        "the length of their embeddings, {against} do ({span}), and moved as far anywhere, {anywhere}.",
        name=asked.ask,
        rows=found.rows,
        unmoved=amount("accuracy", found.unmoved.value),
        share=100 * furthest.share,
        against=amount("accuracy", furthest.against.value),
        span=span("accuracy", furthest.against),
        anywhere=amount("accuracy", furthest.anywhere.value),
    )
    return sentence + (say(" {note}", note=called(found.note)) if found.note else "")


# -- privacy -------------------------------------------------------------------------------------------------
def bound_beside_promise(bound: OneRun, promise: Mapping[str, Any] | None) -> str:
    """What one run shows of epsilon, beside what the accountant says."""
    shown = say(
        "of {canaries:,} planted or left-out rows, {right:,} of {guesses:,} guesses were right: ε is above "
        "{epsilon:.2f} at δ = {delta:.2g}, with a confidence of {confidence:.0f} %",
        canaries=bound.canaries,
        right=bound.right,
        guesses=bound.guesses,
        epsilon=bound.epsilon,
        delta=bound.delta,
        confidence=100 * bound.confidence,
    )
    if promise is None:
        return say("{shown}; no ε was promised.", shown=shown)
    promised = _promised(promise)
    if bound.epsilon <= promise["epsilon"]:
        return say("{shown}; {promised}, which it keeps.", shown=shown, promised=promised)
    return say("{shown}; {promised}, WHICH IT BREAKS: something is wrong.", shown=shown, promised=promised)


def _promised(promise: Mapping[str, Any]) -> str:
    sentence = "the accountant says that ε is at most {epsilon:.2f} at δ = {delta:.2g}"
    return say(sentence, epsilon=promise["epsilon"], delta=promise["delta"])


def private(found: Privacy) -> Iterator[str]:
    if found.note:
        yield called(found.note)
    if found.membership is not None:
        for attack in found.membership.attacks:
            yield say(
                "telling training rows by their {score} {works}: AUC {auc} ({auc_span}; by chance up to "
                "{auc_by_chance}); at 1 % false alarms it finds {tpr} of them ({tpr_span}; by chance up to "
                "{tpr_by_chance}).",
                score=called(attack.score),
                works=say("works") if attack.works else say("does no better than chance"),
                auc=amount("auc", attack.auc.value),
                auc_span=span("auc", attack.auc),
                auc_by_chance=amount("auc", attack.auc_by_chance),
                tpr=amount("accuracy", attack.tpr.value),
                tpr_span=span("accuracy", attack.tpr),
                tpr_by_chance=amount("accuracy", attack.tpr_by_chance),
            )
    if found.canaries:
        bits = sorted(canary.exposure for canary in found.canaries)
        yield say(
            "{n} planted secrets have an exposure of {mean:.1f} bits in the mean ({low:.1f} to {high:.1f}; {chance} "
            "for a model that knows nothing of them). More likely than every alternative: {top}.",
            n=len(bits),
            mean=sum(bits) / len(bits),
            low=bits[0],
            high=bits[-1],
            chance=_BITS_BY_CHANCE,
            top=sum(canary.exposure >= canary.most - 1e-9 for canary in found.canaries),
        )
    if found.one_run is not None:
        yield bound_beside_promise(found.one_run, found.promise)
    elif found.promise is not None:
        yield say("{promised}; it was not tested with planted rows.", promised=_promised(found.promise))
    if found.repetition is not None:
        r = found.repetition
        yield say(
            "given {prompt} characters, it writes the next {compared} word for word for {learnt} ({learnt_span}) of "
            "{learnt_rows:,} training texts, and for {others} ({others_span}) of {other_rows:,} others.",
            prompt=r.prompt,
            compared=r.compared,
            learnt=amount("accuracy", r.learnt.value),
            learnt_span=span("accuracy", r.learnt),
            learnt_rows=r.learnt_rows,
            others=amount("accuracy", r.others.value),
            others_span=span("accuracy", r.others),
            other_rows=r.other_rows,
        )
    if found.copies is not None:
        yield copied(found.copies)


def copied(found: Copies) -> str:
    """Whether what is drawn stands nearer to training values than strangers do."""
    return say(
        "of {rows:,} answers {share} ({span}) are nearer to a training value than 99 % of true values that were not "
        "learnt are, {how}; {equal:,} are equal to one.",
        rows=found.rows,
        share=amount("accuracy", found.near.value),
        span=span("accuracy", found.near),
        how=say("more than chance gives") if found.near.low > found.by_chance else say("no more than chance gives"),
        equal=found.equal,
    )


# -- security ------------------------------------------------------------------------------------------------
def secure(found: Security) -> str:
    serious = [finding for finding in found.findings if finding.serious]
    held = say(
        "The folder holds {files:,} files, {digests:,} of them with the digest of the manifest",
        files=found.files,
        digests=found.digests,
    )
    if not serious:
        clean = say("{held}; no code, no pickles and no secrets were found.", held=held)
        rest = len(found.findings)
        return clean + (say(" Worth a look: {n}.", n=rest) if rest else "")
    first = serious[0]
    more = say(", and {n} more", n=len(serious) - 1) if len(serious) > 1 else ""
    return say("{held}. Found: {file}, {what}{more}.", held=held, file=first.file, what=called(first.what), more=more)


# -- pieces --------------------------------------------------------------------------------------------------
def _lowered(label: str) -> str:
    return label[:1].lower() + label[1:] if label[1:2].islower() else label


def points(metric: str, interval: Interval) -> str:
    """A difference: `21.4 points (18.3 to 24.4)`"""
    value, ends = amount(metric, interval.value), span(metric, interval)
    if value.endswith(" %"):
        value = value.removesuffix(" %") + say(" points")
    return f"{value} ({ends.removesuffix(' %')})"
