"""lora_chnsenticorp: LoRA against whole fine-tuning and read-out only, from one model pretrained on hotel reviews.

    python -m bench lora_chnsenticorp      about 15 minutes on 2 cores

The reviews of `chnsenticorp_hotel`; pretraining sees the training part's texts without labels. Accuracy on the test
part, trained parameters, seconds and peak memory of each way.
"""

from __future__ import annotations

from typing import Any

from bench import chnsenticorp_hotel
from bench.common import Figures, Run, data_folder

SETTINGS: dict[str, Any] = {
    **{key: chnsenticorp_hotel.SETTINGS[key] for key in ("trunk", "columns", "train")},
    "pretrain": {"steps": 300, "objectives": [{"kind": "masked", "documents": 64}]},
    "finetune": {"documents": 64, "epochs": 4, "rate": 1.0},
}

LORA = {"lora": {"rank": 16}, "rate": 3.0}  # of rates 1, 3, 5, 10 the best on validation


def compare(run: Run) -> Figures:
    from bench.adaptation import compare_ways

    return compare_ways(run, SETTINGS, data_folder("chnsenticorp_hotel"), ask="label", lora=LORA)
