"""The benchmark runs and prints every row beside its limit. What it measures here is not judged: machines differ."""

import json
import subprocess

from conftest import binary


def test_every_row_is_there(tmp_path):
    done = subprocess.run(
        [binary(), "bench", "--quick", "--dir", str(tmp_path), "--format", "json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    names = " | ".join(row["what"] for row in rows)
    for part in ("NDJSON → durable", "Arrow → durable", "over HTTP", "GET of 100", "GET of a 1,000", "memory"):
        assert part in names, names
    assert not list(tmp_path.iterdir()), "it cleans up"
