"""`onetrunk serve` as a person starts and stops it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import sites
from sites import until

from onetrunk.core.errors import ModelFileError, UsageError
from onetrunk.serving.folders import named
from onetrunk.serving.guard import is_loopback
from onetrunk.verbs.serve import serve


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("serve") / "stays"
    sites.stays_model().save(place)
    return place


def started(*words: object) -> tuple[subprocess.Popen[str], str]:
    """A server of its own process, and its address, once it is ready."""
    code = "from onetrunk.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", *map(str, words), "--port", "0", "--device", "cpu"],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if result := re.search(r"ready at (http://\S+)/v1", line):
            return process, result[1]
    raise AssertionError(lines)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_it_answers_and_ends_with_the_signal(folder: Path, number: signal.Signals, code: int) -> None:
    process, address = started(folder, f"again={folder}")
    try:
        with urllib.request.urlopen(f"{address}/v1/models") as reply:
            assert [model["id"] for model in json.load(reply)["data"]] == ["stays", "again"]
        body = json.dumps({"model": "again", "rows": [sites.row(0)]}).encode()
        request = urllib.request.Request(f"{address}/v1/predict", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as reply:
            assert json.load(reply)["answers"][0]["label"]["value"] in ("good", "bad")
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as slow:
            head = f"POST /v1/predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
            slow.sendall(head.encode() + body[:9])
            until(lambda: b"onetrunk_open_requests 1" in urllib.request.urlopen(f"{address}/metrics").read())
            process.send_signal(number)
            until(lambda: status(f"{address}/ready") == 503)
            assert status(f"{address}/v1/models") == 503, "who comes while it answers is told, not cut off"
            slow.sendall(body[9:])
            assert slow.recv(100).startswith(b"HTTP/1.1 200")
        _, rest = process.communicate(timeout=30)
        assert process.returncode == code and "Traceback" not in rest, rest
        log = [json.loads(line) for line in rest.splitlines() if line.startswith("{")]
        answered = [entry["route"] for entry in log if entry.get("status") == 200]
        assert [route for route in answered if route.startswith("/v1")] == ["/v1/models", *["/v1/predict"] * 2]
    finally:
        process.kill()
        process.wait()


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def refused(*words: Any, **options: Any) -> UsageError:
    with pytest.raises(UsageError) as error:
        serve(list(words), quiet=True, **options)
    assert error.value.exit_code == 2
    return error.value


def test_a_precision_that_there_is_not(folder: Path) -> None:
    assert "--precision expects auto, bf16, fp32; found 'fp16'" in str(refused(folder, precision="fp16"))


def test_an_address_of_others_needs_a_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONETRUNK_API_KEY", raising=False)
    assert "--api-key" in str(refused(str(folder), host="0.0.0.0"))
    assert "--api-key" in str(refused(str(folder), host="::", api_key=""))
    assert "ASCII" in str(refused(str(folder), host="0.0.0.0", api_key="schlüssel"))


@pytest.mark.parametrize(
    ("address", "local"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("example.org", False)],
)  # fmt: skip
def test_which_addresses_are_this_machine_alone(address: str, local: bool) -> None:
    assert is_loopback(address) is local


def test_a_port_in_use_is_named(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"Port {port} of 127.0.0.1 is in use already" in str(refused(str(folder), port=port))


def test_what_is_no_folder_or_damaged_is_refused(folder: Path, tmp_path: Path) -> None:
    assert "no model folder" in str(refused(str(tmp_path / "nothing"), port=0))
    assert "at least one" in str(refused(port=0))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in folder.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    (damaged / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ModelFileError) as error:
        serve([str(damaged)], port=0, quiet=True)
    assert error.value.exit_code == 4


def test_names_of_folders() -> None:
    assert named(["runs/judge", "second=runs/b/judge"]) == {"judge": "runs/judge", "second": "runs/b/judge"}
    with pytest.raises(UsageError, match="Two model folders are called 'judge'"):
        named(["a/judge", "b/judge"])
