"""What a person sees while it runs: one live line on a terminal, a line every tenth elsewhere, or nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.progress


class Progress:
    """Step, loss, tokens a second, MFU, time left and memory, on stderr (stdout is for results)."""

    def __init__(self, label: str = "train", silent: bool = False) -> None:
        self.label, self.silent = label, silent
        self._live: rich.progress.Progress | None = None
        self._total = 0

    def start(self, step: int, total: int) -> None:
        self._total = total
        if self.silent or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Live

        facts = TextColumn("{task.fields[facts]}")
        left = TimeRemainingColumn(compact=True)
        columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), facts, left)
        self._live = Live(*columns, console=Console(stderr=True))
        self._live.start()
        self._live.add_task(self.label, total=total, completed=step, facts="")

    def update(self, step: int, loss: float, tokens_per_s: float, mfu: float | None = None) -> None:
        """`step` updates are done; `mfu` is the share of the machine's rate of products (`engine.runtime`)."""
        if self.silent:
            return
        share = "" if mfu is None else f"  MFU {100 * mfu:.0f} %"
        facts = f"loss {loss:.4f}  {tokens_per_s:,.0f} tokens/s{share}  {resident_bytes() / 1e9:.1f} GB"
        if self._live is not None:
            self._live.update(self._live.task_ids[0], completed=step, facts=facts)
        elif step == self._total or step % max(1, self._total // 10) == 0:
            self._print(f"{self.label} {step}/{self._total}  {facts}")

    def note(self, message: str) -> None:
        """A line that stays."""
        if self._live is not None:
            self._live.console.print(message, markup=False, highlight=False)
        elif not self.silent:
            self._print(message)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def resident_bytes() -> int:
    """Memory this process holds now; its peak where the system does not tell."""
    import resource

    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
