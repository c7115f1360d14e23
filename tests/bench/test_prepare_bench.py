"""prepare_10gb: sides are timed to their end, and their private memory is that of all of their processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import large, prepare_10gb
from bench.common import Run
from onetrunk.core.errors import UsageError
from onetrunk.core.events import ignore


def test_a_ratio_above_one_means_that_ours_is_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def watched(words: list[str], environment: dict[str, str]) -> tuple[float, int]:
        is_ours = "onetrunk" in words
        for folder in [word for word in words if Path(word).name in ("ours-0", "rival-0")]:
            Path(folder).mkdir()
            Path(f"{folder}-cache").mkdir()
        return (2.0, 10**9) if is_ours else (6.0, 2 * 10**9)

    monkeypatch.setattr(prepare_10gb, "watched", watched)
    monkeypatch.setattr(prepare_10gb, "_tokenizer", lambda sample, place: (place / "model", place / "tokenizer.json"))
    monkeypatch.setattr(prepare_10gb, "LEARNT_FROM", 50)
    for kind in ("false", "true"):
        place = tmp_path / kind
        place.mkdir()
        run = Run("prepare_10gb", "test", 0, ["gb=0.0001", f"csv={kind}", "processes=2"], True, place, ignore)
        figures = prepare_10gb.compare(run)
        assert figures.ratio == pytest.approx(3.0) and figures.also["peak_gb"] == {"ours": 1.0, "rival": 2.0}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_all_processes_and_failures_are_told() -> None:
    inner = "import time; held = bytearray(b'x' * (60 << 20)); time.sleep(1.5)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    seconds, peak = large.watched([sys.executable, "-c", outer], {})
    assert seconds > 1.5 and 60 << 20 < peak < 200 << 20
    with pytest.raises(UsageError, match="no such thing"):
        large.watched([sys.executable, "-c", "raise SystemExit('no such thing')"], {})
