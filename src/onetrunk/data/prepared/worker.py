"""A process that does one job after the other, as its parent sends them (`crew`)."""

from __future__ import annotations

import os
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from onetrunk.core.errors import DataError, ModelFileError, OnetrunkError, ResourceError, UsageError

_PLAIN = (UsageError, DataError, ModelFileError, ResourceError, OnetrunkError)  # made of their message alone
HEARTBEAT = 5.0  # seconds


def main() -> None:
    """Jobs come through standard input; answers, and a sign of life now and then, leave by what was standard output:
    whatever is printed goes to standard error."""
    jobs, answers = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    os.dup2(2, 1)
    lock = threading.Lock()

    def send(*answer: Any) -> None:
        with lock:
            answers.send(answer)

    def live() -> None:
        try:
            while True:
                time.sleep(HEARTBEAT)
                send("alive", None)
        except OSError:
            os._exit(1)  # the parent is gone: what is half done is not of use to anybody

    threading.Thread(target=live, daemon=True).start()
    while True:
        try:
            function, arguments = jobs.recv()
        except EOFError:
            return
        try:
            send("done", function(*arguments))
        except OnetrunkError as error:
            kind = next(each for each in type(error).__mro__ if each in _PLAIN)
            send("failed", kind(str(error)))


if __name__ == "__main__":
    main()
