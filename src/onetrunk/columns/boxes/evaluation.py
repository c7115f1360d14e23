"""How answered boxes are judged: by COCO's average precision; beside each class's usual boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from onetrunk.columns.boxes.encoder import BoxesEncoder
from onetrunk.columns.boxes.values import entries_of, usable_entries
from onetrunk.core.answer import Answer
from onetrunk.core.evaluation import Evaluation
from onetrunk.core.metric import Metric
from onetrunk.metrics.detection import DETECTION, average_precision, precision_recall


class BoxesEvaluation(Evaluation[BoxesEncoder]):
    def metrics(self) -> tuple[Metric, ...]:
        return DETECTION

    def measure(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        return average_precision(truths, [a.value for a in answers])

    def features(self) -> Any:
        """How many boxes of each class there are."""
        from sklearn.preprocessing import FunctionTransformer

        def counts(values: Sequence[Any]) -> np.ndarray:
            each = [Counter(label for label, _ in usable_entries(v)) for v in values]
            return np.array([[count[name] for name in self.encoder.classes] for count in each], dtype=np.float64)

        return FunctionTransformer(counts)

    def baselines(self) -> dict[str, Any]:
        from onetrunk.columns.boxes.baselines import UsualBoxes

        return {"usual boxes": UsualBoxes()}

    def target(self, values: Sequence[Any]) -> np.ndarray:
        out = np.empty(len(values), dtype=object)
        for i, value in enumerate(values):
            out[i] = entries_of(value)
        return out

    def figure(
        self, answers: Sequence[Answer], truths: Sequence[Any], axes: Any, before: Sequence[Any] | None = None
    ) -> bool:
        """Precision over recall of every class."""
        recall, curves = precision_recall(truths, [a.value for a in answers])
        for name, precision in curves.items():
            axes.plot(recall, precision, label=f"{name} {precision.mean():.2f}")
        axes.set_xlabel("share of the boxes found")
        axes.set_ylabel("share of the answered that are right")
        axes.set_ylim(0, 1.02)
        if curves:
            axes.legend(title="AP@.5")
        return bool(curves)
