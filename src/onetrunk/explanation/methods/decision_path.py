"""The decision path: what the model would answer if it stopped after each block (the logit lens, arXiv 2303.08112)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from onetrunk.core.answer import Sampling
from onetrunk.core.decoding import AnswerContext
from onetrunk.core.encoder import ClosedSet, Prompted, reads_on
from onetrunk.core.hidden import Hidden
from onetrunk.core.module import Expected
from onetrunk.explanation.attribution import Finding, finding, plain
from onetrunk.explanation.game import Game
from onetrunk.explanation.method import Method


class DecisionPath(Method):
    attributes = False

    def explain(self, game: Game) -> Finding:
        blocks = [f"block.{i}" for i in range(len(game.network.trunk.layers))]
        hidden = game.hidden(blocks)
        rows: list[list[Any]] = []
        with torch.inference_mode():
            for i, name in enumerate(blocks):
                stopped = Hidden(game.network.trunk.norm(hidden.captured[name]), hidden.batch)
                outcome, answer = self._answer(game, stopped)
                rows.append([f"after block {i + 1}", answer, outcome])
        header = ["stopped", "answer", game.question.explained]
        return finding(game, "decision_path", "What the model would answer after each block", header, rows)

    def _answer(self, game: Game, hidden: Hidden) -> tuple[float, Any]:
        """What is explained, and the whole answer where one state holds it."""
        question, module = game.question, game.module
        read = game.read(hidden.batch)
        h = game.network.read(hidden, question.ask, read)
        outcome = float(game.outcomes_of(h, read).sum())
        encoder = question.store.encoders[-1]
        number = isinstance(module, Expected) and not isinstance(encoder, Prompted)
        if not (number or isinstance(encoder, ClosedSet)) or reads_on(encoder) is not None:
            return outcome, None
        keys = np.array([question.key], dtype=np.uint64)
        state = module.start(AnswerContext.alike(keys, Sampling(), h.device))
        answer = module.finish(module.step(state, h[:1, None], None))[0]
        return outcome, plain(answer.value)


METHOD = DecisionPath
