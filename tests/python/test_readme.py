"""The README's and the first pages' examples, run as they are written; only address and directory are those of the test."""

import os
import re
import subprocess
import sys

import pytest

from conftest import ROOT, Server, binary, caught_up

ADDRESS = "http://127.0.0.1:7070"
BROKER = "localhost:9092"


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def run(command: list[str], example: str, server: Server) -> str:
    # `modelog-data` is where the server keeps its data unless told.
    link = server.data.parent / "modelog-data"
    if not link.exists():
        link.symlink_to(server.data)
    example = example.replace(ADDRESS, server.url).replace("target/release/modelog", binary())
    done = subprocess.run(
        [*command, example], capture_output=True, text=True, cwd=server.data.parent, env={**os.environ, "NO_COLOR": "1"}
    )
    assert done.returncode == 0, f"{example}\n{done.stdout}\n{done.stderr}"
    assert "problem" not in done.stdout, done.stdout
    return done.stdout


def test_the_readme(server):
    shell = [block for block in blocks("README.md", "bash") if BROKER not in block]
    python = blocks("README.md", "python")
    assert (len(shell), len(python)) == (5, 1)
    said = [run(["bash", "-euo", "pipefail", "-c"], example, server) for example in shell[:3]]
    assert '"accepted":6' in said[0]
    assert '"value":0.42' in said[1] and '"accuracy":1.0' in said[1] and '"prediction_id":"p-1"' in said[1]
    assert said[2].count("data:") >= 6
    assert "100 points are on the disk" in run([sys.executable, "-c"], python[0], server)
    caught_up(server)
    assert "resnet50|v1|p-1|tabby cat|0.93" in run(["bash", "-euo", "pipefail", "-c"], shell[3], server)
    assert "/kind=PredictionLogged/date=" in run(["bash", "-euo", "pipefail", "-c"], shell[4], server)


def test_the_section_on_kafka(kafka, topic, tmp_path):
    def here(text: str) -> str:
        return text.replace(BROKER, kafka.servers).replace("ml-events", topic)

    kafka.topic(topic)
    (config,) = [block for block in blocks("README.md", "toml") if BROKER in block]
    (served,) = [block for block in blocks("README.md", "sh") if "--config modelog.toml" in block]
    assert served == "target/release/modelog serve --config modelog.toml\n"
    (tmp_path / "modelog.toml").write_text(here(config))
    server = Server(tmp_path / "data", "--config", str(tmp_path / "modelog.toml")).start()
    (example,) = [block for block in blocks("README.md", "bash") if BROKER in block]
    said = run(["bash", "-euo", "pipefail", "-c"], here(example), server)
    assert f"1 message delivered to {topic}" in said and '"value":0.25' in said, said
    assert '"state":"running"' in said and topic in said, said
    server.stop()


@pytest.mark.parametrize("page", ["docs/getting-started.md"])
def test_a_page(server, page):
    examples = blocks(page, "python")
    assert examples
    for example in examples:
        run([sys.executable, "-c"], example, server)
    assert server.json("/v1/stats")["predictions"] == 3


def test_the_queries_of_the_page_on_tables(server):
    for example in blocks("README.md", "bash")[:1]:
        run(["bash", "-euo", "pipefail", "-c"], example, server)
    caught_up(server)
    (queries,) = blocks("docs/sql.md", "sql")
    done = subprocess.run(
        ["sqlite3", "-readonly", str(server.database)], input=queries, capture_output=True, text=True, check=True
    )
    assert "resnet50|v1|" in done.stdout and "1|0.71|" in done.stdout, done.stdout


def test_links_between_pages_lead_somewhere():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
