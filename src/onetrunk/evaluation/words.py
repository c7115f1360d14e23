"""Figures in plain words, the same in card, report and charts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onetrunk.engine.cost import Cost
from onetrunk.evaluation.intervals import Interval
from onetrunk.evaluation.record import Origin, TaskEvidence

_STAGES = {"wide": "simple models", "pretrain": "pretraining", "finetune": "fine-tuning"}


@dataclass(frozen=True)
class Word:
    """`kind`: "share" is shown in percent, "score" with three decimals, "count" whole, "units" as is."""

    label: str
    kind: str
    meaning: str = ""


_WORDS = {
    "accuracy": Word("Accuracy", "share", "answers that are right"),
    "balanced_accuracy": Word("Balanced accuracy", "share", "right answers, each class counting alike"),
    "f1_macro": Word("F1, macro", "score", "precision and recall together, each class counting alike"),
    "f1_micro": Word("F1, micro", "score", "precision and recall together, each label counting alike"),
    "auc": Word("AUC", "score", "how often the right class is ranked first; 0.5 is guessing"),
    "mAP": Word("mAP", "score", "average precision over the classes"),
    "mAP@.5": Word("mAP@.5", "score", "average precision over the classes, where half an overlap is a hit"),
    "mAP@[.5:.95]": Word("mAP@[.5:.95]", "score", "the same, over overlaps from .5 to .95"),
    "log_loss": Word(
        "Log loss", "score", "minus the log of the probability of the true class, in nats; lower is better"
    ),
    "brier": Word("Brier score", "score", "squared error of the probabilities; lower is better"),
    "ece": Word("Calibration error", "score", "how far confidence and accuracy differ; lower is better"),
    "worst_group": Word("Worst group", "score", "the main metric of the group that fares worst"),
    "exposure": Word("Exposure", "units", "bits that a planted secret is given away by; 0 for none"),
    "worst_class_recall": Word("Worst class", "share", "right answers of the class that is recognised worst"),
    "wh_per_1000_answers": Word("Energy of 1,000 answers", "units", "watt-hours; lower is better"),
    "training_kwh": Word("Energy of training", "units", "kilowatt-hours of all runs; lower is better"),
    "interval_score": Word(
        "Interval score",
        "score",
        "width of the 90 % intervals and what misses cost, in standard units; lower is better",
    ),
    "unseen": Word("Unseen labels", "count", "rows whose true label did not occur in training; they count as wrong"),
    "rmse": Word("RMSE", "units", "typical error, large ones weighing more; lower is better"),
    "mae": Word("Mean error", "units", "mean absolute error; lower is better"),
    "medae": Word("Median error", "units", "half of the errors are smaller; lower is better"),
    "r2": Word("R²", "score", "share of the variance explained; 0 for always answering the mean"),
    "spearman": Word("Rank correlation", "score", "Spearman's; 1 for the right order"),
    "coverage": Word("Coverage", "share", "true values inside the 90 % interval or set; 90 % is right"),
    "set_size": Word("Set size", "units", "classes in a 90 % set, in the mean; fewer say more"),
    "level_error": Word("Level error", "units", "mean distance from the true level, in levels; lower is better"),
    "quadratic_kappa": Word(
        "Quadratic kappa", "score", "agreement in levels, large misses weighing more; 0 for guessing, 1 for all right"
    ),
    "interval_width": Word("Interval width", "units", "mean width of the 90 % interval"),
    "crps": Word("CRPS", "units", "error of the whole distribution; lower is better"),
    "exact_match": Word("Exact match", "share", "written exactly right"),
    "character_error_rate": Word("Character errors", "share", "edits for each true character; lower is better"),
    "word_error_rate": Word("Word errors", "share", "edits for each true word; lower is better"),
    "mel_cepstral_distortion": Word(
        "Mel cepstral distortion", "units", "how differently it sounds, dB; lower is better"
    ),
    "log_spectral_distance": Word("Log-spectral distance", "units", "difference of the spectra, dB; lower is better"),
    "length_error": Word("Length error", "units", "mean difference of the lengths, seconds; lower is better"),
    "nearest_known": Word("Distance to training", "units", "from an answer to the nearest training value"),
    "nearest_known_of_true": Word(
        "Distance of true values", "units", "the same for true values; copies would be much nearer"
    ),
    "energy_score": Word(
        "Energy score",
        "score",
        "distance of two draws from the true value, less half of that between them; lower is better",
    ),
    "spread": Word("Spread", "score", "how much two answers differ; little if the same is drawn again and again"),
    "spread_of_true": Word("Spread of true values", "score", "the same for true values"),
    "read_right": Word("Read right", "share", "answers in which a logistic regression reads the class that was given"),
    "read_right_of_true": Word("True values read right", "share", "the same for true values"),
    "perplexity": Word("Perplexity", "units", "how many tokens it hesitates between; lower is better"),
    "loss": Word("Loss", "score", "nats a token; lower is better"),
    "bits_per_byte": Word("Bits a byte", "score", "bits needed to write a byte; lower is better"),
    "hit_rate_10": Word(
        "Hit rate at 10", "share", "how often the true item is among the first 10 of the whole catalogue"
    ),
    "ndcg_10": Word("NDCG at 10", "score", "the same, counting more the higher it ranks; of the whole catalogue"),
    "mrr": Word("Reciprocal rank", "score", "mean of one over the true item's rank in the whole catalogue"),
    "hit_rate_10_of_101": Word(
        "Hit rate at 10 of 101", "share", "how often it is among the first 10 of itself and 100 others at random"
    ),
    "ndcg_10_of_101": Word(
        "NDCG at 10 of 101", "score", "the same, counting more the higher it ranks; among 100 others at random"
    ),
    "similarity": Word("Similarity", "score", "Tanimoto's, of fingerprints of true and answered molecules"),
    "validity": Word("Valid", "share", "answers that are molecules"),
    "uniqueness": Word("Unique", "share", "valid answers that differ from each other"),
    "novelty": Word("Novel", "share", "different valid answers that are in no training row"),
    "novelty_of_true": Word("Novel true values", "share", "different true values that are in no training row"),
    "selection_rate": Word("Selection rate", "share", "rows that are answered so"),
    "true_positive_rate": Word("True positive rate", "share", "rows that are so, and are answered so"),
    "false_positive_rate": Word("False positive rate", "share", "rows that are not so, and are answered so"),
    "precision": Word("Precision", "share", "rows that are answered so, and are so"),
}

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def word(metric: str) -> Word:
    return _WORDS.get(metric) or Word(metric.replace("_", " "), "units")


def amount(metric: str, value: float | None, sign: bool = False) -> str:
    """A figure with its unit: `95.3 %`, `0.912`, `1,204`; `sign` writes + and − (a true minus)."""
    if value is None:
        return "undefined"
    plus = "+" if sign else ""
    kind = word(metric).kind
    if kind == "share":
        text = f"{100 * value:{plus}.1f} %"
    elif kind == "score":
        text = f"{value:{plus}.3f}"
    elif kind == "count" or abs(value) >= 1000:
        text = f"{value:{plus},.0f}"
    else:
        text = f"{value:{plus}#.4g}".removesuffix(".")
    return text.replace("-", "−")


def span(metric: str, interval: Interval, sign: bool = False) -> str:
    """`92.6 to 97.0 %`"""
    low, high = amount(metric, interval.low, sign), amount(metric, interval.high, sign)
    return f"{low.removesuffix(' %')} to {high}"


def headline(task: TaskEvidence) -> str:
    """Better than the strongest simple baseline on the same rows, level with it, or worse; and by how much."""
    label = word(task.metric).label
    rows = f"{task.rows:,} held-out row{'s' if task.rows != 1 else ''}"
    unit = f" {task.unit}" if task.unit and task.unit not in label else ""
    if task.score is None:
        value = f"{amount(task.metric, task.metrics[task.metric])}{unit}"
        return f"{label} is {value} on {rows}: too few to say more."
    reached = f"{amount(task.metric, task.score.value)}{unit} ({span(task.metric, task.score)}) on {rows}"
    best = task.best
    if best is None or best.score is None or best.lead is None:
        return f"{label} {reached}. No simple baseline was run."
    standing = "Better than" if best.lead.value > 0 else "Worse than"
    standing = standing if best.lead.excludes(0) else "Level with"
    how = f"{_distance(task.metric, best.lead)} {'better' if best.lead.value > 0 else 'worse'}"
    how = "no difference" if best.lead.value == 0 else how
    its = f"{amount(task.metric, best.score.value)}{unit}"
    label = label[0].lower() + label[1:] if label[1:2].islower() else label  # not of AUC
    return f"{standing} the strongest simple baseline, {best.name}: {label} {reached}, against {its}: {how}."


def certainty(task: TaskEvidence) -> str:
    """Whether its probabilities or intervals were calibrated, and what that did; nothing where there are none."""
    if task.ece is None and "coverage" not in task.metrics:
        return ""
    here = ""
    if task.ece is not None:
        value, ends = amount("ece", task.ece.value), span("ece", task.ece)
        here = f" On the held-out rows the calibration error is {value} ({ends})."
    what = "probabilities" if task.ece is not None else "intervals"
    if task.calibration is None:
        return f"Its {what} were not calibrated: training held out no rows for that.{here}"
    made = task.calibration
    changes = [
        f"{_lowered(word(name).label)} from {amount(name, before)} to {amount(name, made['after'].get(name))}"
        for name, before in made["before"].items()
    ]
    how = f"temperature {made['temperature']:.2f}" if task.ece is not None else f"intervals × {made['spread']:.2f}"
    return (
        f"Its {what} were calibrated on {made['rows']:,} {made['fitted_on']} ({how}). On these rows that brought "
        f"{joined(changes)}.{here}"
    )


def _lowered(label: str) -> str:
    return label[:1].lower() + label[1:]


def lead(metric: str, interval: Interval) -> str:
    """`+6.7 points (+3.0 to +10.4)`"""
    value, ends = amount(metric, interval.value, sign=True), span(metric, interval, sign=True)
    return f"{value} ({ends})".replace(" %", " points", 1).replace(" %", "")


def _distance(metric: str, lead: Interval) -> str:
    value = amount(metric, abs(lead.value))
    unit = " points" if value.endswith(" %") else ""
    low, high = sorted((lead.low, lead.high) if lead.value > 0 else (-lead.low, -lead.high))
    ends = f"{amount(metric, low)} to {amount(metric, high)}".replace(" %", "")
    return f"{value.removesuffix(' %')}{unit} ({ends})"


def joined(names: Sequence[str]) -> str:
    """`a, b and c`"""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def times(seconds: Mapping[str, float], between: str) -> str:
    """How long each stage of training took."""
    return between.join(f"{_STAGES.get(stage, stage)} {duration(taken)}" for stage, taken in seconds.items())


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def energy(wh: float) -> str:
    """`0.42 Wh`, `1.3 kWh`"""
    return f"{wh / 1000:,.3g} kWh" if wh >= 1000 else f"{wh:.3g} Wh"


def weight(grams: float) -> str:
    """`12 g`, `1.3 kg`"""
    return f"{grams / 1000:,.3g} kg" if grams >= 1000 else f"{grams:.3g} g"


def memory(size: float) -> str:
    return f"{size / 1e9:.2g} GB"


def cost_line(seconds: float, wh: float, co2_g: float, peak_bytes: float, measured: bool) -> str:
    """`3 min 20 s, 0.42 Wh (estimated), 0.2 g of CO2, at most 1.2 GB of memory`"""
    how = "measured" if measured else "estimated"
    parts = [f"{energy(wh)} ({how})", f"{weight(co2_g)} of CO2", f"at most {memory(peak_bytes)} of memory"]
    return ", ".join([duration(seconds), *parts])


def costs(origin: Origin, tasks: Sequence[TaskEvidence]) -> dict[str, str]:
    """What it cost to make, run by run, and what 1,000 answers cost."""
    runs = [Cost.of_json(run) for run in origin.runs]
    out = {f"Run of {run['verb']}": _line(cost) for run, cost in zip(origin.runs, runs, strict=True)}
    if len(runs) > 1:
        total = f"{energy(sum(run.wh for run in runs))}, {weight(sum(run.co2_g for run in runs))} of CO2"
        out["All runs"] = f"{duration(sum(run.seconds for run in runs))}, {total}"
    for task in tasks:
        if task.cost is not None:
            out[f"1,000 answers of {task.ask}"] = _line(Cost.of_json(task.cost))
    hows = {cost.how for cost in runs} | {Cost.of_json(task.cost).how for task in tasks if task.cost is not None}
    if hows:
        out["Energy"] = f"{'; '.join(sorted(hows))}. CO2 at {origin.co2_g_per_kwh:,.4g} g a kWh"
    return out


def _line(cost: Cost) -> str:
    return cost_line(cost.seconds, cost.wh, cost.co2_g, cost.peak_bytes, cost.measured)


def plain(text: str) -> str:
    """Text without control characters and lone surrogates, which files and terminals choke on."""
    return _UNPRINTABLE.sub("\ufffd", text)


def sources(given: Sequence[str]) -> str:
    """The given columns in a few words."""
    if not given:
        return "nothing"
    return joined(given) if len(given) <= 4 else f"{len(given)} columns"
