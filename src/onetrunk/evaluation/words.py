"""Figures in plain words, the same in card, report and charts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onetrunk.engine.cost import Cost
from onetrunk.evaluation.intervals import Interval
from onetrunk.evaluation.language import called, metric_words, say
from onetrunk.evaluation.record import Origin, TaskEvidence

_STANDING = {  # by the sign of the lead, 0 where it may be chance
    1: "Better than the strongest simple baseline, {best}: {label} {reached}, against {its}: {how}.",
    0: "Level with the strongest simple baseline, {best}: {label} {reached}, against {its}: {how}.",
    -1: "Worse than the strongest simple baseline, {best}: {label} {reached}, against {its}: {how}.",
}
_OF_SHARES = set("0123456789./")
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
    "epsilon": Word("ε", "units", "what private training may give away of a row; lower is better"),
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
    known = _WORDS.get(metric) or Word(metric.replace("_", " "), "units")
    label, meaning = metric_words(metric, known.label, known.meaning)
    return Word(label, known.kind, meaning)


def amount(metric: str, value: float | None, sign: bool = False) -> str:
    """A figure with its unit: `95.3 %`, `0.912`, `1,204`; `sign` writes + and − (a true minus)."""
    if value is None:
        return say("undefined")
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
    return say("{low} to {high}", low=low.removesuffix(" %"), high=high)


def headline(task: TaskEvidence) -> str:
    """Better than the strongest simple baseline on the same rows, level with it, or worse; and by how much."""
    label = word(task.metric).label
    rows = say("{n:,} held-out rows", n=task.rows) if task.rows != 1 else say("{n:,} held-out row", n=1)
    unit = f" {task.unit}" if task.unit and task.unit not in label else ""
    if task.score is None:
        value = f"{amount(task.metric, task.metrics[task.metric])}{unit}"
        return say("{label} is {value} on {rows}: too few to say more.", label=label, value=value, rows=rows)
    value = f"{amount(task.metric, task.score.value)}{unit}"
    reached = say("{value} ({span}) on {rows}", value=value, span=span(task.metric, task.score), rows=rows)
    best = task.best
    if best is None or best.score is None or best.lead is None:
        return say("{label} {reached}. No simple baseline was run.", label=label, reached=reached)
    its = f"{amount(task.metric, best.score.value)}{unit}"
    label = _lowered(label)
    parts = {"best": called(best.name), "label": label, "reached": reached, "its": its, "how": _how(task, best.lead)}
    return say(_STANDING[best.lead.excludes(0) * (1 if best.lead.value > 0 else -1)], **parts)


def _how(task: TaskEvidence, lead: Interval) -> str:
    distance = _distance(task.metric, lead)
    if lead.value == 0:
        return say("no difference")
    return say("{distance} better", distance=distance) if lead.value > 0 else say("{distance} worse", distance=distance)


def certainty(task: TaskEvidence) -> str:
    """Whether its probabilities or intervals were calibrated, and what that did; nothing where there are none."""
    if task.ece is None and "coverage" not in task.metrics:
        return ""
    here = ""
    if task.ece is not None:
        value, ends = amount("ece", task.ece.value), span("ece", task.ece)
        here = say(" On the held-out rows the calibration error is {value} ({ends}).", value=value, ends=ends)
    if task.calibration is None:
        if task.ece is None:
            return say("Its intervals were not calibrated: training held out no rows for that.")
        return say("Its probabilities were not calibrated: training held out no rows for that.") + here
    made = task.calibration
    changes = [
        say(
            "{what} from {before} to {after}",
            what=_lowered(word(name).label),
            before=amount(name, before),
            after=amount(name, made["after"].get(name)),
        )
        for name, before in made["before"].items()
    ]
    parts = {"n": made["rows"], "rows": called(made["fitted_on"]), "changes": joined(changes)}
    if task.ece is None:
        how = say("intervals × {value:.2f}", value=made["spread"])
        sentence = say(
            "Its intervals were calibrated on {n:,} {rows} ({how}). On these rows that brought {changes}.",
            how=how,
            **parts,
        )
    else:
        how = say("temperature {value:.2f}", value=made["temperature"])
        sentence = say(
            "Its probabilities were calibrated on {n:,} {rows} ({how}). On these rows that brought {changes}.",
            how=how,
            **parts,
        )
    return sentence + here


def _lowered(label: str) -> str:
    return label[:1].lower() + label[1:] if label[1:2].islower() else label  # not of AUC


def abstained(task: TaskEvidence) -> str:
    """What the surest answers are worth beside all of them; nothing where that was not measured."""
    half = next((each for each in task.abstention if each["share"] == 0.5), None)
    every = next((each for each in task.abstention if each["share"] == 1.0), None)
    if half is None or every is None or half["value"] is None or every["value"] is None:
        return ""
    parts = {
        "label": _lowered(word(task.metric).label),
        "half": amount(task.metric, half["value"]),
        "all": amount(task.metric, every["value"]),
    }
    if (half["value"] > every["value"]) == task.higher_is_better and half["value"] != every["value"]:
        return say("If it answered only the surer half of the rows, {label} would be {half} instead of {all}.", **parts)
    return say(
        "Its surer answers are no better: on the surer half of the rows, {label} is {half}, on all {all}.", **parts
    )


def leaked(task: TaskEvidence) -> list[str]:
    """Whether held-out rows give away more than later ones will, in sentences; none where that was not looked at."""
    if task.leaks is None:
        return []
    near, others = task.leaks["nearly_learnt"], task.leaks["others"]
    if not near:
        out = [say("No held-out row is nearly equal to a training row in what is given.")]
    elif others is None:
        out = [say("Nearly equal to a training row in what is given: {n:,} held-out rows.", n=near)]
    else:
        sentence = (
            "Nearly equal to a training row in what is given: {n:,} held-out rows. On the others, {label} is {value}."
        )
        label = _lowered(word(task.metric).label)
        out = [say(sentence, n=near, label=label, value=amount(task.metric, others))]
    for column, share in task.leaks["telling_columns"].items():
        out.append(
            say(
                "{column} alone tells {ask} in {share} of the held-out rows: is it known when the model is asked?",
                column=column,
                ask=task.ask,
                share=amount("accuracy", share),
            )
        )
    return out


def more_labels(task: TaskEvidence) -> str:
    """Whether more labelled rows would help, by the strongest baseline."""
    found = task.labels_curve
    if found is None:
        return ""
    before, last = found["points"][-2:]
    parts = {
        "name": called(found["baseline"]),
        "label": _lowered(word(task.metric).label),
        "before": amount(task.metric, before["score"]["value"]),
        "few": before["rows"],
        "last": amount(task.metric, last["score"]["value"]),
        "many": last["rows"],
    }
    if found["gain"] is not None and found["gain"]["low"] > 0:
        return say(
            "More labels would help: with {few:,} labelled rows {name} reaches {label} {before}, with {many:,} {last}.",
            **parts,
        )
    return say(
        "More labels would hardly help: with {few:,} labelled rows {name} reaches {label} {before}, with {many:,} "
        "{last}.",
        **parts,
    )


def lead(metric: str, interval: Interval) -> str:
    """`+6.7 points (+3.0 to +10.4)`"""
    value, ends = amount(metric, interval.value, sign=True), span(metric, interval, sign=True)
    return f"{value} ({ends})".replace(" %", say(" points"), 1).replace(" %", "")


def _distance(metric: str, lead: Interval) -> str:
    value = amount(metric, abs(lead.value))
    unit = say(" points") if value.endswith(" %") else ""
    low, high = sorted((lead.low, lead.high) if lead.value > 0 else (-lead.low, -lead.high))
    ends = say("{low} to {high}", low=amount(metric, low), high=amount(metric, high)).replace(" %", "")
    return f"{value.removesuffix(' %')}{unit} ({ends})"


def joined(names: Sequence[str]) -> str:
    """`a, b and c`"""
    if len(names) < 2:
        return "".join(names)
    return say("{first} and {last}", first=say(", ").join(names[:-1]), last=names[-1])


def times(seconds: Mapping[str, float], between: str) -> str:
    """How long each stage of training took."""
    return between.join(f"{called(_STAGES.get(stage, stage))} {duration(taken)}" for stage, taken in seconds.items())


def duration(seconds: float) -> str:
    if seconds < 60:
        return say("{value:.1f} s", value=seconds) if seconds < 10 else say("{value:.0f} s", value=seconds)
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return say("{hours} h {minutes} min", hours=hours, minutes=minutes)
    return say("{minutes} min {seconds} s", minutes=minutes, seconds=rest)


def energy(wh: float) -> str:
    """`41 mWh`, `0.42 Wh`, `1.3 kWh`"""
    if wh < 0.1:
        return f"{1000 * wh:.3g} mWh"
    return f"{wh / 1000:,.3g} kWh" if wh >= 1000 else f"{wh:.3g} Wh"


def weight(grams: float) -> str:
    """`41 mg`, `12 g`, `1.3 kg`"""
    if grams < 0.1:
        return f"{1000 * grams:.3g} mg"
    return f"{grams / 1000:,.3g} kg" if grams >= 1000 else f"{grams:.3g} g"


def memory(size: float) -> str:
    return f"{size / 1e9:.2g} GB"


def cost_line(seconds: float, wh: float, co2_g: float, peak_bytes: float, measured: bool) -> str:
    """`3 min 20 s, 0.42 Wh (estimated), 0.2 g of CO2, at most 1.2 GB of memory`"""
    parts = {
        "time": duration(seconds),
        "energy": energy(wh),
        "weight": weight(co2_g),
        "memory": memory(peak_bytes),
    }
    if measured:
        return say("{time}, {energy} (measured), {weight} of CO2, at most {memory} of memory", **parts)
    return say("{time}, {energy} (estimated), {weight} of CO2, at most {memory} of memory", **parts)


def costs(origin: Origin, tasks: Sequence[TaskEvidence]) -> dict[str, str]:
    """What it cost to make, run by run, and what 1,000 answers cost."""
    runs = [Cost.of_json(run) for run in origin.runs]
    names = [say("Run of {verb}, {began}", verb=run["verb"], began=run["began"]) for run in origin.runs]
    out = {name: _line(cost) for name, cost in zip(names, runs, strict=True)}
    if len(runs) > 1:
        out[say("All runs")] = say(
            "{time}, {energy}, {weight} of CO2",
            time=duration(sum(run.seconds for run in runs)),
            energy=energy(sum(run.wh for run in runs)),
            weight=weight(sum(run.co2_g for run in runs)),
        )
    answers = {task.ask: Cost.of_json(task.cost) for task in tasks if task.cost is not None}
    out |= {say("1,000 answers of {ask}", ask=ask): _line(cost) for ask, cost in answers.items()}
    if hows := dict.fromkeys(cost.how for cost in [*runs, *answers.values()]):
        how = "; ".join(_how_counted(each) for each in hows)
        out[say("Energy")] = say("{how}. CO2 at {grams:,.4g} g a kWh", how=how, grams=origin.co2_g_per_kwh)
    return out


def _how_counted(how: str) -> str:
    """`estimated: 8 W for 12.3 seconds of a core; ...`, in the language that is spoken."""
    kind, between, parts = how.partition(": ")
    if not between:
        return called(how)
    return say("{name}: {rest}", name=called(kind), rest="; ".join(map(called, parts.split("; "))))


def _line(cost: Cost) -> str:
    return cost_line(cost.seconds, cost.wh, cost.co2_g, cost.peak_bytes, cost.measured)


def plain(text: str) -> str:
    """Text without control characters and lone surrogates, which files and terminals choke on."""
    return _UNPRINTABLE.sub("\ufffd", text)


def split_in_words(how: str) -> str:
    """How rows were split, in the language that is spoken, and the shares."""
    words, between, shares = how.rpartition(", ")
    return f"{called(words)}{say(', ')}{shares}" if between and set(shares) <= _OF_SHARES else called(how)


def sources(given: Sequence[str]) -> str:
    """The given columns in a few words."""
    if not given:
        return say("nothing")
    return joined(given) if len(given) <= 4 else say("{n} columns", n=len(given))
