"""The rivals of the comparisons of speed: Hugging Face's Trainer and datasets, and a plain PyTorch loop."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from bench.speed import Found, peak_gb


def _arguments(place: str, **more: Any) -> Any:
    from transformers import TrainingArguments

    quiet = {"report_to": [], "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True}
    return TrainingArguments(output_dir=place, use_cpu=True, dataloader_pin_memory=False, **quiet, **more)


def _step_timer() -> Any:
    """A callback whose `times` holds when each step ended, after the time when training began."""
    from transformers import TrainerCallback

    class Timer(TrainerCallback):
        times: list[float]

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.times = [time.perf_counter()]

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.times.append(time.perf_counter())

    return Timer()


def gpt2(shape: dict[str, int], batch: int, length: int, steps: int, bf16: bool, place: str, warm: int = 2) -> Found:
    """Steps of GPT-2 of this shape through HF Trainer; the median step after those that warm up."""
    import numpy as np
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer

    ids = np.random.default_rng(0).integers(0, shape["vocabulary"], (batch * (steps + 1), length))
    rows = [{"input_ids": torch.from_numpy(row), "labels": torch.from_numpy(row)} for row in ids]
    config = GPT2Config(
        vocab_size=shape["vocabulary"], n_positions=length, n_embd=shape["width"], n_layer=shape["layers"],
        n_head=shape["heads"], resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
    )  # fmt: skip
    model, timer = GPT2LMHeadModel(config), _step_timer()
    told = _arguments(place, bf16=bf16, per_device_train_batch_size=batch, max_steps=steps)
    Trainer(model, told, train_dataset=rows, callbacks=[timer]).train()
    seconds = statistics.median(np.diff(timer.times)[warm:])
    parameters = sum(p.numel() for p in model.parameters())
    return {"tokens_per_s": batch * length / seconds, "peak_gb": peak_gb(), "parameters": parameters}


def bert(ids: list[list[int]], labels: list[int], vocabulary: int, batch: int, passes: int, place: str) -> Found:
    """Passes over the rows with a new BERT-base through HF Trainer: bf16, batches of similar length."""
    from tokenizers import Tokenizer, models
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        DataCollatorWithPadding,
        PreTrainedTokenizerFast,
        Trainer,
    )

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"[PAD]": 0}, "[PAD]")))
    tokenizer.pad_token = "[PAD]"
    rows = [{"input_ids": row, "labels": label} for row, label in zip(ids, labels, strict=True)]
    config = BertConfig(vocab_size=vocabulary, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = BertForSequenceClassification(config)
    timer = _step_timer()
    told = _arguments(
        place, bf16=True, per_device_train_batch_size=batch, num_train_epochs=passes,
        train_sampling_strategy="group_by_length",
    )  # fmt: skip
    collate = DataCollatorWithPadding(tokenizer)
    Trainer(model, told, train_dataset=rows, data_collator=collate, callbacks=[timer]).train()
    seconds = timer.times[-1] - timer.times[0]
    return {"samples_per_s": passes * len(rows) / seconds, "peak_gb": peak_gb()}


def read_and_pack(files: list[str], tokenizer: str, length: int, place: str) -> Found:
    """Texts, one a line, through `datasets`: tokenised and cut into blocks in batches, as in HF's run_clm.py."""
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

    texts = [line for name in files for line in Path(name).read_text(encoding="utf-8").splitlines() if line]
    made = PreTrainedTokenizerFast(tokenizer_file=tokenizer, model_max_length=10**9)

    def blocks(rows: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        joined = [token for row in rows["input_ids"] for token in row]
        whole = len(joined) // length * length
        return {"input_ids": [joined[i : i + length] for i in range(0, whole, length)]}

    start = time.perf_counter()
    rows = Dataset.from_dict({"text": texts})
    rows = rows.map(lambda some: {"input_ids": made(some["text"])["input_ids"]}, batched=True, remove_columns=["text"])
    packed = rows.map(blocks, batched=True, remove_columns=rows.column_names)
    seconds = time.perf_counter() - start
    return {"mb_per_s": sum(len(t.encode()) for t in texts) / 1e6 / seconds, "tokens": length * len(packed)}


def picture_loop(file: str, width: int, layers: int, heads: int, batch: int, passes: int, place: str) -> Found:
    """A plain PyTorch loop: a DataLoader that augments picture by picture, convolutions, an encoder, AdamW, bf16."""
    import io
    import math

    import numpy as np
    import pandas as pd
    import torch
    import torch.nn.functional as F
    from PIL import Image
    from torch import nn

    from onetrunk.nn.convolution import ResidualStages

    frame = pd.read_parquet(file)
    pictures = [np.asarray(Image.open(io.BytesIO(image["bytes"])).convert("RGB")) for image in frame["image"]]

    class Augmented(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(pictures)

        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            x = torch.from_numpy(pictures[i].transpose(2, 0, 1).astype(np.float32) / 127.5 - 1)
            angle, scale = math.radians(8) * (2 * torch.rand(()) - 1), 1 + 0.1 * (2 * torch.rand(()) - 1)
            mirror, move = 1 - 2 * (torch.rand(()) < 0.5).float(), 0.2 * (2 * torch.rand(2) - 1)
            cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
            theta = torch.stack([cos * mirror, -sin, move[0], sin * mirror, cos, move[1]]).view(1, 2, 3)
            grid = F.affine_grid(theta, [1, *x.shape], align_corners=False)
            x = F.grid_sample(x[None], grid, padding_mode="border", align_corners=False)[0]
            x = (x * (1 + 0.1 * (2 * torch.rand(()) - 1)) + 0.1 * (2 * torch.rand(()) - 1)).clamp(-1, 1)
            top, left = torch.randint(0, 32, (2,)).tolist()
            x[:, max(0, top - 4) : top + 4, max(0, left - 4) : left + 4] = 0
            return x, int(frame["label"][i])

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = ResidualStages(3, 64, 8, 1)
            self.to_width = nn.Conv2d(self.stem.channels_out, width, self.stem.rest, stride=self.stem.rest)
            layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
            self.trunk = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
            self.place, self.head = nn.Parameter(torch.zeros(16, width)), nn.Linear(width, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.to_width(self.stem(x)).flatten(2).transpose(1, 2) + self.place
            return self.head(self.trunk(h).mean(1))

    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    loader = torch.utils.data.DataLoader(Augmented(), batch, shuffle=True, drop_last=False)
    times = []
    for _ in range(passes):
        start = time.perf_counter()
        for x, y in loader:
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        times.append(time.perf_counter() - start)
    return {"seconds": min(times), "parameters": sum(p.numel() for p in net.parameters())}
