"""What Prometheus's own tools say of the scrape and of the API's description."""

import json
import re
import subprocess
import time

from openapi_spec_validator import validate

from conftest import PATIENCE, caught_up, ndjson


def test_promtool_has_nothing_to_say(server):
    events = [
        {
            "type": "PredictionLogged",
            "model": 'odd "name"\\ é',
            "version": "v1",
            "output": 1,
            "confidence": 0.5,
            "inference_time_ms": 3,
        }
    ] * 3
    server.post(ndjson(*events))
    server.post("{")
    server.get("/no/such/route")
    caught_up(server)
    # Whoever waits for the tables is told before the gauge is set.
    no_lag = re.compile(r'^modelog_projection_lag_events\{projection="sql"\} 0$', re.M)
    end = time.monotonic() + PATIENCE
    while not no_lag.search((scrape := server.get("/metrics")).text):
        assert time.monotonic() < end, scrape.text
        time.sleep(0.01)
    assert scrape.headers["content-type"].startswith("text/plain")
    checked = subprocess.run(["promtool", "check", "metrics"], input=scrape.text, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    assert re.search(r'^modelog_predictions_total\{.*version="v1".*\} 3$', scrape.text, re.M), scrape.text
    assert re.search(r'^modelog_ingest_events_total\{.*kind="PredictionLogged".*\} 3$', scrape.text, re.M)


def test_a_restart_is_no_traffic(server):
    server.post(ndjson(*[{"type": "PredictionLogged", "model": "m", "version": "v", "output": 1}] * 5))
    assert server.stop() == 0
    server.start()
    caught_up(server)
    assert not re.search(r"^modelog_predictions_total\{.*\} [1-9]", server.get("/metrics").text, re.M)


def test_the_description_of_the_api_is_sound(server):
    description = server.json("/openapi.json")
    validate(description)
    assert "/v1/events" in description["paths"], json.dumps(description)[:200]
