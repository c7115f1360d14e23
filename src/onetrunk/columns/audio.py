"""Audio: speech and other sound, as a log-mel spectrogram cut in short parts; recognised, completed or spoken."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from onetrunk.columns._sound import SUFFIXES, LogMel, evened, hz_to_mel, open_sound, resampled, wav
from onetrunk.columns.families.scalar.bars import Bars, fit_bars
from onetrunk.core import rng
from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.batch import Loss
from onetrunk.core.column import Codec
from onetrunk.core.config import Config
from onetrunk.core.content import Content, Role, Segment, local_positions
from onetrunk.core.decoding import AnswerContext, Query, State, state_keys
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.nn.heads.distribution import BarDistribution
from onetrunk.nn.heads.flow import WAVES, denoised, noisy, ode_step, waves, weight

_MOST_RATE = 16_000  # Hz, unless told: speech holds little above 8 kHz
_LOOKED_AT = 200  # recordings that the scale is learnt from
_SLOT, _NOTHING = -1, -2  # instead of a part's number: where the length is asked, and padding
_DECIBEL = np.log(10) / 10  # in natural logarithms of power
_SKETCH = 12  # frames that a simple model sees
_STRETCHED = 32  # frames that a simple model answers


class Audio(Codec):
    """Parts with one noise level each, as patches of pictures have. What is asked begins with a slot that tells how
    many parts there are; they see it, and each other."""

    ragged = True
    parts = True
    shared = True
    guided = True
    read_out = ("head", "length_head")

    class Options(Config):
        rate: int | None = Field(None, ge=4000, le=48_000)  # Hz inside the model; None: the recordings', 16,000 at most
        even: bool = True  # bring every recording to one loudness
        bands: int = Field(64, ge=8, le=256)  # of the mel scale
        step: int = Field(4, ge=1, le=32)  # frames of 10 ms in one part
        length: int = Field(750, ge=1, le=100_000)  # parts of one recording that the trunk sees: the context
        hide: float = Field(0.5, gt=0, le=1)  # share of parts hidden when masked, about
        span: int = Field(3, ge=1, le=100)  # neighbouring parts hidden together (wav2vec 2.0, arXiv 2006.11477)
        speed: float = Field(0.1, ge=0, lt=1)  # augmentation in training: share of the speed,
        pitch: float = Field(0.1, ge=0, lt=1)  # share of all frequencies (Jaitly and Hinton 2013),
        gain: float = Field(6.0, ge=0)  # decibels, of all bands and of some more than of others,
        noise: float = Field(0.5, ge=0, le=1)  # how often noise is added,
        mask: float = Field(0.1, ge=0, lt=1)  # share of time, and of bands, left out (SpecAugment, arXiv 1904.08779)
        stem: int = Field(16, ge=1, le=1024)  # channels of the convolutional stem

    # -- knowledge ---------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        return 1.0 if all(_looks_like_sound(v) for v in values) else 0.0

    def fit(self, values: Sequence[Any]) -> None:
        found = []
        for value in values[:: max(1, len(values) // _LOOKED_AT)]:
            try:
                found.append(open_sound(value, self.options.rate or _MOST_RATE))
            except BadValueError:
                continue
        if not found:
            raise DataError("An audio column needs at least one readable recording in the training rows; found none.")
        self.sampling_rate = self.options.rate or min(_MOST_RATE, int(np.median([rate for rate, _ in found])))
        self._listen()
        heard = [self._spectrogram(rate, samples) for rate, samples in found]
        frames = np.concatenate(heard)
        self.mean, self.scale = float(frames.mean()), float(frames.std()) + 1e-3
        lengths = np.array([len(h) / self.options.step for h in heard])
        self.longest = int(lengths.max())
        self.length_bars = fit_bars(lengths / self.longest)
        self.lengths = BarDistribution(**self.length_bars.knowledge())

    def _listen(self) -> None:
        self.spectra = LogMel(self.sampling_rate, self.options.bands)

    def _spectrogram(self, rate: int, samples: np.ndarray) -> np.ndarray:
        """Log-mel [frames, bands] of whole parts."""
        samples = resampled(samples, rate, self.sampling_rate)
        return self.spectra(evened(samples, self.sampling_rate) if self.options.even else samples, self.options.step)

    def knowledge(self) -> dict[str, Any]:
        return {
            "rate": self.sampling_rate,
            "mean": self.mean,
            "scale": self.scale,
            "longest": self.longest,
            "lengths": self.length_bars.knowledge(),
        }

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self.sampling_rate, self.longest = knowledge["rate"], knowledge["longest"]
        self.mean, self.scale = knowledge["mean"], knowledge["scale"]
        self.length_bars = Bars(**knowledge["lengths"])
        self.lengths = BarDistribution(**knowledge["lengths"])
        self._listen()

    @property
    def size(self) -> int:
        """Numbers of one part."""
        return self.options.step * self.options.bands

    def build(self, width: int) -> None:
        stem, step, bands = self.options.stem, self.options.step, self.options.bands
        self.narrow = nn.Conv2d(1, stem, 3, padding=1, stride=(1, 2))
        self.wide = nn.Conv2d(stem, 2 * stem, 3, padding=1, stride=(1, 2))
        self.deep = nn.Conv2d(2 * stem, 2 * stem, 3, padding=1)
        self.to_width = nn.Linear(2 * stem * step * -(-bands // 4), width)
        self.level = nn.Linear(WAVES, width)
        self.place = nn.Linear(WAVES, width)
        self.slot = nn.Parameter(torch.zeros(width))
        self.head = nn.Linear(width, self.size)
        self.length_head = nn.Linear(width, self.lengths.size)
        for head in (self.head, self.length_head):
            nn.init.zeros_(head.weight)
        self.length_head.bias.data.copy_(self.lengths.mass.log())

    # -- a person's view ---------------------------------------------------------------------------------------------
    @classmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        lengths, rates, unreadable = [], set(), 0
        for value in values[:: max(1, len(values) // _LOOKED_AT)]:
            try:
                rate, samples = open_sound(value, _MOST_RATE)
            except BadValueError:
                unreadable += 1
                continue
            lengths.append(len(samples) / rate)
            rates.add(rate)
        if not lengths:
            return {"readable": 0}
        return {
            "shortest": f"{min(lengths):.2f} s",
            "median": f"{float(np.median(lengths)):.2f} s",
            "longest": f"{max(lengths):.2f} s",
            "samples a second": " and ".join(f"{rate:,}" for rate in sorted(rates)),
            "unreadable in the sample": unreadable,
        }

    @classmethod
    def fingerprint(cls, value: Any) -> str:
        try:
            rate, samples = open_sound(value, _MOST_RATE)
        except BadValueError:
            return f"unreadable {value!r:.200}"
        return hashlib.sha1(f"{rate}".encode() + samples.tobytes()).hexdigest()

    def dropped(self, content: Content) -> dict[str, int]:
        longer = int((content.lens > self.options.length).sum())
        seconds = self.options.length * self.options.step / 100
        return {f"recordings longer than {seconds:g} s, heard up to there": longer} if longer else {}

    # -- values to parts ---------------------------------------------------------------------------------------------
    def encode(self, value: Any) -> dict[str, np.ndarray]:
        mel = (self._spectrogram(*open_sound(value, self.sampling_rate)) - self.mean) / self.scale
        return {"mel": mel.astype(np.float16).reshape(-1, self.size)}

    def blank(self) -> dict[str, np.ndarray]:
        return {"mel": np.zeros((1, self.size), dtype=np.float16)}

    def windows(self, content: Content) -> np.ndarray:
        return np.maximum(1, -(-content.lens // self.options.length))

    def positions(self, content: Content) -> np.ndarray:
        slowest = np.ceil(content.lens * (1 + self.options.speed)).astype(np.int64)
        return np.minimum(slowest, self.options.length) + 1

    def successive(self, content: Content) -> tuple[Content, np.ndarray]:
        """Cuts long recordings into windows that cover every part once. Returns them and whose each is [w]."""
        many = self.windows(content)
        whose = np.repeat(np.arange(len(content)), many)
        first = local_positions(many) * self.options.length
        return content.take(whose).window(first, np.minimum(content.lens[whose] - first, self.options.length)), whose

    # -- parts to positions ------------------------------------------------------------------------------------------
    def segment(self, content: Content, role: Role, keys: np.ndarray, augment: bool = False) -> Segment:
        lens = np.minimum(content.lens, self.options.length)
        first = np.zeros_like(lens)
        if augment and role == Role.MASKED:
            first = rng.integers(rng.mix(keys, "window"), content.lens - lens + 1)
        mel = content.window(first, lens).gather()["mel"].astype(np.float32)
        if role == Role.ASKED:
            return self._spoken(mel, lens, keys)
        if augment:
            mel, lens = self._augmented(mel, lens, keys)
        part = local_positions(lens)
        level = np.ones(len(mel), dtype=np.float32)
        if role == Role.GIVEN:
            return Segment({"mel": mel, "level": level, "part": part, "of": np.zeros_like(part)}, lens)
        level[self._hidden(lens, keys)] = 0
        reads = np.flatnonzero(level == 0)
        shown = noisy(mel, self._noise(lens, keys), level[:, None])
        shown = {"mel": shown, "level": level, "part": part, "of": np.zeros_like(part)}
        return Segment(shown, lens, reads=reads, targets=self._targets(mel[reads], level[reads], part[reads], 0))

    def _spoken(self, mel: np.ndarray, lens: np.ndarray, keys: np.ndarray) -> Segment:
        """The slot, then all parts at one noise level; more often low, where most is decided."""
        level = np.repeat(rng.uniform(rng.mix(keys, "level")) ** 1.5, lens).astype(np.float32)
        shown = noisy(mel, self._noise(lens, keys), level[:, None])
        part = local_positions(lens + 1) - 1
        heard = part >= 0
        spread = [np.zeros((len(part), *array.shape[1:]), dtype=np.float32) for array in (shown, mel, level)]
        for whole, array in zip(spread, (shown, mel, level), strict=True):
            whole[heard] = array
        shown, mel, level = spread
        of = np.repeat(lens, lens + 1)
        targets = self._targets(mel, level, part, of)
        return Segment(
            {"mel": shown, "level": level, "part": part, "of": of},
            lens + 1,
            order=heard.astype(np.int64),
            reads=np.arange(len(part), dtype=np.int64),
            targets=targets,
        )

    def _targets(
        self, mel: np.ndarray, level: np.ndarray, part: np.ndarray, of: np.ndarray | int
    ) -> dict[str, np.ndarray]:
        return {
            "mel": mel,
            "velocity": weight(level).astype(np.float32),
            "part": part,
            "length": (np.zeros(len(part)) + of / self.longest).astype(np.float32),
            "w": np.ones(len(part), dtype=np.float32),
        }

    def _noise(self, lens: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Normal numbers [n, size], each part's of its own key."""
        return rng.normal(rng.mix(np.repeat(rng.mix(keys, "noise"), lens), local_positions(lens)), self.size)

    def _hidden(self, lens: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """bool [n]: runs of `span` parts that begin anywhere, one at least."""
        o, local = self.options, local_positions(lens)
        u = rng.uniform(rng.mix(np.repeat(rng.mix(keys, "hide"), lens), local))
        begins = u < 1 - (1 - o.hide) ** (1 / o.span)
        begins[np.cumsum(lens) - lens + rng.integers(rng.mix(keys, "begin"), lens)] = True
        hidden = begins.copy()
        for shift in range(1, min(o.span, int(lens.max(initial=1)))):
            hidden[shift:] |= begins[:-shift] & (local[shift:] >= shift)
        return hidden

    def _augmented(self, mel: np.ndarray, lens: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Other speed, pitch and loudness, noise, and stretches left out, each recording in its own way."""
        o, bands, step = self.options, self.options.bands, self.options.step
        u = rng.uniform(rng.mix(keys, "augment"), 12)
        slower = 1 + o.speed * (2 * u[:, 0] - 1)
        new = np.clip(np.round(lens * slower), 1, o.length).astype(np.int64)
        frames, which = step * new, np.repeat(np.arange(len(new)), step * new)
        last = (step * lens - 1)[which]
        at = np.clip((local_positions(frames) + 0.5) * (lens / new)[which] - 0.5, 0, last).astype(np.float32)
        before = np.minimum(at.astype(np.int64), np.maximum(last - 1, 0))
        start = (step * (np.cumsum(lens) - lens))[which]
        rest = (at - before)[:, None]
        flat = mel.reshape(-1, bands)
        x = flat[start + before] * (1 - rest) + flat[start + np.minimum(before + 1, last)] * rest
        x = np.take_along_axis(x, self._other_bands(1 + o.pitch * (2 * u[:, 1] - 1))[which], axis=1)

        x = x * self.scale + self.mean
        loudest = np.full(len(lens), -np.inf, dtype=np.float32)
        np.maximum.at(loudest, which, x.mean(1))
        below = (10 + 30 * u[:, 3]) * _DECIBEL  # 10 to 40 dB under the loudest frame,
        across = np.linspace(-1, 1, bands, dtype=np.float32)
        tilt = 2 * (2 * u[:, 4:5] - 1) * across  # darker or lighter
        level = np.where(u[:, 2] < o.noise, loudest - below, -50).astype(np.float32)[:, None] + tilt
        grain = self._noise(new, rng.mix(keys, "grain")).reshape(-1, bands)
        shapes = np.stack([np.ones(bands), across, 2 * across**2 - 1])  # louder, and another microphone
        gain = o.gain * _DECIBEL * (2 * u[:, [5, 10, 11]] - 1) @ shapes
        x = np.logaddexp(x, level[which] + 0.7 * grain) + gain[which].astype(np.float32)
        x = ((x - self.mean) / self.scale).astype(np.float32)

        long = np.round(o.mask * u[:, 6] * frames)[which]
        from_ = ((u[:, 7] * frames)[which]).astype(np.int64)
        here = local_positions(frames)
        x[(here >= from_) & (here < from_ + long)] = 0
        high, low = np.round(2 * o.mask * u[:, 8] * bands)[:, None], np.floor(u[:, 9] * bands)[:, None]
        band = np.arange(bands)
        x[((band >= low) & (band < low + high))[which]] = 0
        return x.reshape(-1, self.size), new

    def _other_bands(self, ratio: np.ndarray) -> np.ndarray:
        """Which band each takes its value from when all frequencies are multiplied by `ratio` [m]: int64 [m, bands]."""
        ends = hz_to_mel(self.sampling_rate / 2)
        mel = hz_to_mel(self.spectra.centres / ratio[:, None])
        return np.clip(np.round(mel / ends * (self.options.bands + 1)) - 1, 0, self.options.bands - 1).astype(np.int64)

    def embed(self, content: dict[str, Tensor]) -> Tensor:
        part, of, level = content["part"], content["of"], content["level"]
        through = (part + 0.5) / of.clamp(min=1)  # how far through it: only where the length is known
        x = self._stem(content["mel"], part) + self.level(waves(level))
        x = x + torch.where((of > 0)[:, None], self.place(waves(through)), 0.0)
        return torch.where((part == _SLOT)[:, None], self.slot, x)

    def _stem(self, mel: Tensor, part: Tensor) -> Tensor:
        """Convolutions over time and bands, all recordings on one axis of time with a silent part between, so that none
        hears its neighbour; [n, size] to [n, D]."""
        step, bands = self.options.step, self.options.bands
        row = (part >= 0).nonzero()[:, 0]
        place = torch.arange(len(row), device=mel.device) + (part[row] == 0).cumsum(0)
        total = len(row) + int((part == 0).sum()) + 1
        total = -(-total // 64) * 64  # few different shapes: kernels are made for each
        line = mel.new_zeros(total, step * bands).index_copy(0, place, mel[row]).view(1, 1, total * step, bands)
        there = mel.new_zeros(total).index_fill(0, place, 1.0).repeat_interleave(step)[:, None]
        x = F.gelu(self.narrow(line)) * there
        x = F.gelu(self.wide(x)) * there
        x = x + F.gelu(self.deep(x)) * there
        out = self.to_width(x[0].transpose(0, 1).reshape(total, -1)[place])
        return out.new_zeros(len(part), out.shape[1]).index_copy(0, row, out)

    # -- positions to answers ----------------------------------------------------------------------------------------
    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        """Of parts the flow's, of the slot the negative log density of the length (nats)."""
        slot, w = targets["part"] == _SLOT, targets["w"]
        losses = (self.head(h).float() - targets["mel"]).square().mean(-1) * targets["velocity"]
        losses = torch.where(slot, self.lengths.loss(self.length_head(h).float(), targets["length"]), losses)
        return Loss((losses * w).sum(), w.sum(), losses.detach())

    def start(self, context: AnswerContext) -> State:
        """`phase` 0 asks for the length, 1 goes from noise to sound."""
        state = context.state("temperature", "max_length", "guidance", "steps")
        return {**state, "phase": torch.zeros_like(state["steps"]), "taken": torch.zeros_like(state["steps"])}

    def query(self, state: State) -> Query:
        """The slot first; then all parts, again and again, from noise to sound."""
        n, device = len(state["done"]), state["done"].device
        if not int(state["phase"][0]):
            of = torch.zeros(n, dtype=torch.int64, device=device)
            content = {"mel": torch.zeros(n, self.size, device=device), "level": torch.zeros(n, device=device)}
            return Query({**content, "part": torch.full_like(of, _SLOT), "of": of}, t=1, keep=True)
        length = state["length"]
        t = int(length.max())
        mel = state["mel"][:, :t]
        part = torch.arange(t, device=device).expand(n, -1)
        valid = part < length[:, None]
        content = {
            "mel": mel.flatten(0, 1),
            "level": (state["taken"].float() / state["steps"]).repeat_interleave(t),
            "part": torch.where(valid, part, _NOTHING).flatten(),
            "of": length.repeat_interleave(t),
        }
        return Query(content, t=t, pos=1, valid=valid)

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        if not int(state["phase"][0]):
            return {**state, "phase": state["phase"] + 1, **self._first_noise(state, h[:, 0])}
        clean = denoised(self.head, h, unconditional, state["guidance"])
        mel = ode_step(state["mel"][:, : h.shape[1]], clean, state["taken"], state["steps"])
        taken = state["taken"] + 1
        return {**state, "done": taken >= state["steps"], "mel": mel, "taken": taken}

    def _first_noise(self, state: State, h: Tensor) -> State:
        """How long each answer will be, the median unless drawn, and the noise it begins as."""
        keys, temperature = state_keys(state), state["temperature"]
        logits = self.length_head(h).float()
        u = torch.from_numpy(rng.uniform(rng.mix(keys, "length"), 1)).to(h.device)
        median = self.lengths.quantile(logits, torch.full_like(u, 0.5))
        drawn = self.lengths.sample(logits, u, torch.where(temperature > 0, temperature, 1))
        chosen = torch.where(temperature[:, None] > 0, drawn, median)[:, 0]
        longest = state["max_length"].clamp(max=self.options.length)
        length = torch.minimum((chosen * self.longest).round().long(), longest).clamp(min=1)
        lens = np.full(len(keys), int(length.max()) if len(keys) else 1)
        noise = self._noise(lens, keys).reshape(len(keys), -1, self.size)
        return {"length": length, "mel": torch.from_numpy(noise).to(h.device)}

    def answer_positions(self, prompt: np.ndarray, sampling: Sampling) -> np.ndarray:
        return np.full_like(prompt, 1 + max(1, min(self.options.length, sampling.max_length)))

    def finish(self, state: State) -> list[Answer]:
        """WAV files."""
        mel = (state["mel"] * self.scale + self.mean).cpu().numpy()
        answers = []
        for parts, length in zip(mel, state["length"].tolist(), strict=True):
            samples = self.spectra.invert(parts[:length].reshape(-1, self.options.bands))
            answers.append(Answer(wav(samples, self.sampling_rate)))
        return answers

    # -- evidence ----------------------------------------------------------------------------------------------------
    higher_is_better = False

    def metrics(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        heard = [(self._log_mel(t), self._log_mel(a.value)) for a, t in zip(answers, truths, strict=True)]
        from onetrunk.metrics.sound import log_spectral_distance, mel_cepstral_distortion

        seconds = [abs(len(t) - len(a)) / 100 for t, a in heard]
        return {
            "mel_cepstral_distortion": float(np.mean([mel_cepstral_distortion(t, a) for t, a in heard])),
            "log_spectral_distance": float(np.mean([log_spectral_distance(t, a) for t, a in heard])),
            "length_error": float(np.mean(seconds)),
        }

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray:
        from onetrunk.metrics.sound import mel_cepstral_distortion

        pairs = zip(answers, truths, strict=True)
        return np.array([mel_cepstral_distortion(self._log_mel(t), self._log_mel(a.value)) for a, t in pairs])

    def _log_mel(self, value: Any) -> np.ndarray:
        """[frames, bands]"""
        parts = self.encode(value)["mel"].astype(np.float32)
        return parts.reshape(-1, self.options.bands) * self.scale + self.mean

    def features(self) -> Any:
        from sklearn.preprocessing import FunctionTransformer

        return FunctionTransformer(lambda values: np.stack([self._sketch(v, _SKETCH) for v in values]))

    def _sketch(self, value: Any, frames: int) -> np.ndarray:
        """Seconds, then the whole spectrogram in a few frames: [1 + frames * bands]; nothing where it is unreadable."""
        try:
            mel = self._log_mel(value) if value is not None else None
        except BadValueError:
            mel = None
        if mel is None:
            return np.zeros(1 + frames * self.options.bands)
        return np.concatenate([[len(mel) / 100], _stretched((mel - self.mean) / self.scale, frames).ravel()])

    def baselines(self) -> dict[str, Any]:
        from sklearn.dummy import DummyRegressor
        from sklearn.linear_model import Ridge

        return {"mean recording": DummyRegressor(), "ridge": Ridge()}

    def target(self, values: Sequence[Any]) -> np.ndarray:
        for value in values:
            open_sound(value, self.sampling_rate)
        return np.stack([self._sketch(value, _STRETCHED) for value in values])

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        answers = []
        for row in estimator.predict(features):
            mel = row[1:].reshape(_STRETCHED, self.options.bands) * self.scale + self.mean
            frames = int(np.clip(round(100 * row[0]), 1, 100 * self.options.length))
            answers.append(Answer(wav(self.spectra.invert(_stretched(mel, frames)), self.sampling_rate)))
        return answers

    @classmethod
    def show(cls, value: Any) -> dict[str, str]:
        """A player, and the spectrogram: time to the right, low sounds below."""
        try:
            rate, samples = open_sound(value, _MOST_RATE)
        except BadValueError as error:
            return {"text": str(error)}
        from PIL import Image as Pillow

        rate, samples = min(rate, _MOST_RATE), resampled(samples, rate, min(rate, _MOST_RATE))
        samples = samples[: 20 * rate]
        mel = LogMel(rate, 64)(samples).T[::-1]
        grey = np.clip((mel - mel.max()) / (60 * _DECIBEL) + 1, 0, 1)
        picture = Pillow.fromarray((255 - 255 * grey).astype(np.uint8)).resize(
            (int(np.clip(2 * mel.shape[1], 128, 256)), 96)
        )
        place = io.BytesIO()
        picture.save(place, format="PNG")
        return {
            "wav": base64.b64encode(wav(samples, rate)).decode(),
            "png": base64.b64encode(place.getvalue()).decode(),
        }


def _stretched(mel: np.ndarray, frames: int) -> np.ndarray:
    """A spectrogram [t, bands] in another number of frames, which are means where it becomes shorter."""
    t = torch.from_numpy(np.ascontiguousarray(mel.T, dtype=np.float32))[None]
    if frames < len(mel):
        return F.adaptive_avg_pool1d(t, frames)[0].T.numpy()
    return F.interpolate(t, size=frames, mode="linear", align_corners=False)[0].T.numpy()


def _looks_like_sound(value: Any) -> bool:
    if isinstance(value, dict):
        return "bytes" in value and str(value.get("path") or "").lower().endswith(SUFFIXES)
    if isinstance(value, tuple):
        return len(value) == 2 and isinstance(value[0], int) and isinstance(value[1], np.ndarray)
    if isinstance(value, bytes):
        return value[:4] in (b"RIFF", b"fLaC", b"OggS", b"FORM") or value[:3] == b"ID3"
    return isinstance(value, Path) and value.name.lower().endswith(SUFFIXES)


CODEC = Audio
