"""Rivals that are run: Hugging Face's Trainer (GPT-2, BERT, Marian) and datasets, and a plain PyTorch loop."""

from __future__ import annotations

import statistics
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.speed import Found, peak_gb


def _arguments(place: str, device: str = "cpu", **more: Any) -> Any:
    from transformers import TrainingArguments

    quiet = {"report_to": [], "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True}
    return TrainingArguments(
        output_dir=place, use_cpu=device == "cpu", dataloader_pin_memory=device != "cpu", **quiet, **more
    )


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


def gpt2(
    shape: dict[str, int],
    batch: int,
    length: int,
    steps: int,
    bf16: bool,
    place: str,
    compiled: bool = False,
    warm: int = 2,
    device: str = "cpu",
) -> Found:
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
    arguments = _arguments(
        place, device, bf16=bf16, torch_compile=compiled, per_device_train_batch_size=batch, max_steps=steps
    )
    Trainer(model, arguments, train_dataset=rows, callbacks=[timer]).train()
    seconds = statistics.median(np.diff(timer.times)[warm:])
    parameters = sum(p.numel() for p in model.parameters())
    return {"tokens_per_s": batch * length / seconds, "peak_gb": peak_gb(device), "parameters": parameters}


def nanogpt(
    source: str, shape: dict[str, int], batch: int, length: int, steps: int, bf16: bool, place: str, warm: int = 5,
    device: str = "cpu", compiled: bool = True,
) -> Found:  # fmt: skip
    """The same of nanoGPT (a checkout at `source`), as its train.py goes: compiled, no biases, the next batch copied
    from pinned memory while the device computes."""
    import contextlib
    import importlib.util

    import torch

    spec = importlib.util.spec_from_file_location("nanogpt_model", Path(source) / "model.py")
    assert spec is not None and spec.loader is not None
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.manual_seed(0)
    ids = torch.randint(shape["vocabulary"], (batch * (steps + 1), length + 1))
    config = theirs.GPTConfig(
        block_size=length, vocab_size=shape["vocabulary"], n_layer=shape["layers"], n_head=shape["heads"],
        n_embd=shape["width"], dropout=0.0, bias=False,
    )  # fmt: skip
    raw = theirs.GPT(config).to(device)
    optimizer = raw.configure_optimizers(0.1, 6e-4, (0.9, 0.95), torch.device(device).type)
    model = torch.compile(raw) if compiled else raw
    autocast = torch.autocast(torch.device(device).type, torch.bfloat16) if bf16 else contextlib.nullcontext()

    def get(step: int) -> list[torch.Tensor]:
        rows = ids[step * batch : (step + 1) * batch]
        x, y = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
        if device == "cpu":
            return [x, y]
        return [each.pin_memory().to(device, non_blocking=True) for each in (x, y)]

    x, y = get(0)
    times = [time.perf_counter()]
    for step in range(steps):
        with autocast:
            _, loss = model(x, y)
        x, y = get(step + 1)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()  # waits for the device
        times.append(time.perf_counter())
    seconds = statistics.median(after - before for before, after in pairwise(times[warm:]))
    parameters = sum(p.numel() for p in raw.parameters())
    return {"tokens_per_s": batch * length / seconds, "peak_gb": peak_gb(device), "parameters": parameters}


def bert(
    ids: list[list[int]], labels: list[int], vocabulary: int, batch: int, passes: int, bf16: bool, place: str
) -> Found:
    """Passes over the rows with a new BERT-base through HF Trainer: batches of similar length."""
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
    arguments = _arguments(
        place, bf16=bf16, per_device_train_batch_size=batch, num_train_epochs=passes,
        train_sampling_strategy="group_by_length",
    )  # fmt: skip
    collate = DataCollatorWithPadding(tokenizer)
    Trainer(model, arguments, train_dataset=rows, data_collator=collate, callbacks=[timer]).train()
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


def picture_loop(
    file: str, width: int, layers: int, heads: int, batch: int, passes: int, bf16: bool, place: str
) -> Found:
    """A plain PyTorch loop: a DataLoader that augments picture by picture, convolutions, an encoder, AdamW."""
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
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        times.append(time.perf_counter() - start)
    return {"seconds": min(times), "parameters": sum(p.numel() for p in net.parameters())}


def marian(
    pairs: dict[str, tuple[list[str], list[str]]], part: str, place: str, *, vocabulary: int, width: int, layers: int,
    epochs: int, lr: float, batch: int, beams: int, seed: int,
) -> list[str]:  # fmt: skip
    """The part's translations, with a search of so many beams, by an encoder-decoder (Marian's, as many layers in each)
    trained from random weights through HF's Seq2SeqTrainer in fp32: one byte-level BPE for both languages, label
    smoothing .1, dropout .1, a cosine; the epoch with the least validation loss is kept."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import (
        DataCollatorForSeq2Seq,
        MarianConfig,
        MarianMTModel,
        PreTrainedTokenizerFast,
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
        set_seed,
    )

    set_seed(seed)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=["<pad>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    bpe.train_from_iterator([line for side in pairs["train"] for line in side], trainer)
    bpe.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="</s>")

    def rows(name: str) -> list[dict[str, list[int]]]:
        sources, targets = (tokenizer(side)["input_ids"] for side in pairs[name])
        return [{"input_ids": s, "labels": t} for s, t in zip(sources, targets, strict=True)]

    config = MarianConfig(
        vocab_size=vocabulary, d_model=width, encoder_layers=layers, decoder_layers=layers, encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width, encoder_attention_heads=width // 32, decoder_attention_heads=width // 32,
        activation_function="gelu", dropout=0.1, max_position_embeddings=256, scale_embedding=True, pad_token_id=0,
        eos_token_id=1, decoder_start_token_id=0, forced_eos_token_id=None,
    )  # fmt: skip
    arguments = Seq2SeqTrainingArguments(
        output_dir=place, use_cpu=True, report_to=[], logging_strategy="no", disable_tqdm=True, seed=seed,
        dataloader_pin_memory=False, num_train_epochs=epochs, per_device_train_batch_size=batch,
        per_device_eval_batch_size=batch, learning_rate=lr, lr_scheduler_type="cosine", warmup_steps=0.05,
        label_smoothing_factor=0.1, train_sampling_strategy="group_by_length", eval_strategy="epoch",
        save_strategy="epoch", save_total_limit=1, load_best_model_at_end=True,
    )  # fmt: skip
    model = MarianMTModel(config)
    collate = DataCollatorForSeq2Seq(tokenizer, model)
    Seq2SeqTrainer(
        model, arguments, train_dataset=rows("train"), eval_dataset=rows("val"), data_collator=collate
    ).train()
    model.eval()
    written = []
    for i in range(0, len(pairs[part][0]), 64):
        some = tokenizer(pairs[part][0][i : i + 64], return_tensors="pt", padding=True)
        with torch.inference_mode():
            made = model.generate(
                input_ids=some["input_ids"],
                attention_mask=some["attention_mask"],
                max_new_tokens=100,
                num_beams=beams,
                do_sample=False,
            )
        written += tokenizer.batch_decode(made, skip_special_tokens=True)
    return written
