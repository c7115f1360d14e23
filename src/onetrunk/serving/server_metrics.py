"""What the server has done, as numbers that Prometheus reads."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds


class Metrics:
    """Counts of requests by route and status, and how long they took."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._within: Counter[tuple[str, float]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._count: Counter[str] = Counter()

    def observe(self, route: str, status: int, seconds: float) -> None:
        with self._lock:
            self._requests[route, status] += 1
            self._count[route] += 1
            self._seconds[route] += seconds  # type: ignore[assignment]  # a Counter adds up any numbers
            for bound in _BUCKETS:
                self._within[route, bound] += seconds <= bound

    def text(self, gauges: Iterable[tuple[str, str, str, float]]) -> str:
        """In Prometheus's text format; `gauges` are (name, type, help, value) of what others count."""
        with self._lock:
            lines = ["# HELP onetrunk_requests_total Requests answered.", "# TYPE onetrunk_requests_total counter"]
            for (route, status), count in sorted(self._requests.items()):
                lines.append(f'onetrunk_requests_total{{route="{route}",status="{status}"}} {count}')
            name = "onetrunk_request_seconds"
            lines += [f"# HELP {name} Seconds from a request to the end of its answer.", f"# TYPE {name} histogram"]
            for route in sorted(self._count):
                for bound in _BUCKETS:
                    lines.append(f'{name}_bucket{{route="{route}",le="{bound}"}} {self._within[route, bound]}')
                lines.append(f'{name}_bucket{{route="{route}",le="+Inf"}} {self._count[route]}')
                lines.append(f'{name}_sum{{route="{route}"}} {self._seconds[route]:.6f}')
                lines.append(f'{name}_count{{route="{route}"}} {self._count[route]}')
        for name, kind, text, value in gauges:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"
