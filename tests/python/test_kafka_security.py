"""Encrypted connections and passwords, against a broker that demands them."""

import subprocess
from pathlib import Path

import pytest

from conftest import binary
from kafka_broker import Broker
from kafka_reader import QUICK, Reader, assert_exactly_once
from kafka_support import Kafka, Numbered

SECRET = "hush-5f2c"


def openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def authority(directory: Path, name: str) -> Path:
    """A certificate that may sign others."""
    made = directory / f"{name}.pem"
    key = ["-newkey", "rsa:2048", "-nodes", "-keyout", directory / f"{name}.key"]
    openssl("req", "-x509", *key, "-subj", f"/CN={name}", "-days", "2", "-out", made)
    return made


def signed(directory: Path, name: str, by: Path) -> Path:
    """A certificate for 127.0.0.1, before its key in one file, as Kafka reads them."""
    key, request, made = (directory / f"{name}.{end}" for end in ("key", "csr", "pem"))
    names = directory / "names"
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-subj", f"/CN={name}", "-out", request)
    signer = ["-CA", by, "-CAkey", by.with_suffix(".key"), "-CAcreateserial", "-extfile", names]
    openssl("x509", "-req", "-in", request, *signer, "-days", "2", "-out", made)
    both = directory / f"{name}-both.pem"
    both.write_text(key.read_text() + made.read_text())
    return both


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    """A broker that listens in every way, and the directory with the certificates."""
    directory = tmp_path_factory.mktemp("secured")
    ours = authority(directory, "ours")
    authority(directory, "strangers")
    server = signed(directory, "server", ours)
    signed(directory, "client", ours)
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_reader="{SECRET}";'
    listeners = {"TLS": "SSL", "MUTUAL": "SSL", "BOTH": "SASL_SSL", "SASL": "SASL_PLAINTEXT"}
    mechanisms = {"plain": plain, "scram-sha-256": scram, "scram-sha-512": scram}
    broker = Broker(
        directory / "broker",
        listeners=listeners,
        **{
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(server),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(ours),
            "listener.name.mutual.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            **{
                f"listener.name.{listener}.{mechanism}.sasl.jaas.config": module
                for listener in ("both", "sasl")
                for mechanism, module in mechanisms.items()
            },
        },
    )
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
        broker.format_options += ["--add-scram", f"{mechanism}=[name=reader,password={SECRET}]"]
    broker.start()
    yield broker, directory
    broker.kill()


def password(mechanism: str, password: str = SECRET) -> dict[str, str]:
    return {"sasl.mechanisms": mechanism, "sasl.username": "reader", "sasl.password": password}


def properties(way: str, directory: Path) -> dict[str, str]:
    trust = {"ssl.ca.location": str(directory / "ours.pem")}
    client = {
        "ssl.certificate.location": str(directory / "client.pem"),
        "ssl.key.location": str(directory / "client.key"),
    }
    return {
        "TLS": {"security.protocol": "ssl", **trust},
        "MUTUAL": {"security.protocol": "ssl", **trust, **client},
        "BOTH": {"security.protocol": "sasl_ssl", **trust},
        "SASL": {"security.protocol": "sasl_plaintext"},
    }[way]


WAYS = [
    ("TLS", {}),
    ("MUTUAL", {}),
    ("BOTH", password("PLAIN")),
    ("BOTH", password("SCRAM-SHA-512")),
    ("SASL", password("SCRAM-SHA-256")),
]


@pytest.mark.parametrize(("listener", "more"), WAYS)
def test_every_way_in(secured, tmp_path, topic, listener, more):
    broker, directory = secured
    kafka = Kafka(broker)
    produced = Numbered(kafka, kafka.topic(topic, partitions=2), 2)
    produced.send(200)
    given = {**QUICK, **properties(listener, directory), **more}
    reader = Reader(tmp_path / "data", kafka, topic, brokers=[broker.address(listener)], properties=given)
    reader.start().is_at_end()
    assert_exactly_once(reader, produced)
    reader.commits(topic)
    assert reader.stop() == 0


WRONG = [
    ("TLS", {"ssl.ca.location": "strangers.pem"}, "certificate"),
    ("MUTUAL", {"ssl.certificate.location": "", "ssl.key.location": ""}, ""),
    ("BOTH", password("SCRAM-SHA-512", "guessed-77aa"), "uthentication"),
    ("SASL", password("PLAIN", "guessed-77aa"), "uthentication"),
]


@pytest.mark.parametrize(("listener", "changed", "reason"), WRONG)
def test_who_is_not_let_in_says_so(secured, tmp_path, topic, listener, changed, reason):
    broker, directory = secured
    kafka = Kafka(broker)
    kafka.topic(topic)
    given = {**properties(listener, directory), **changed}
    for name, value in changed.items():
        if name.startswith("ssl."):
            given[name] = str(directory / value) if value else ""
    given = {name: value for name, value in given.items() if value}
    reader = Reader(tmp_path / "data", kafka, topic, brokers=[broker.address(listener)], properties=given).start()
    reader.wait("to say so", lambda: reader.degraded() and reader.source()["reason"])
    source = reader.source()
    assert source["state"] in ("connecting", "failed"), source
    reader.wait("the reason", lambda: reason in reader.source()["reason"])
    assert reader.post('{"type": "EventLogged", "name": "n"}', "application/json").status_code == 200
    assert "guessed" not in reader.said() + reader.get("/v1/sources").text
    assert reader.stop() == 0


def test_passwords_are_not_shown(tmp_path):
    config = tmp_path / "modelog.toml"
    given = '{ "sasl.username" = "reader", "sasl.password" = "hush-5f2c", "ssl.key.password" = "hush-5f2c" }'
    config.write_text(f'[[kafka]]\nbrokers = ["127.0.0.1:9"]\ntopics = ["t"]\ngroup_id = "g"\nproperties = {given}\n')
    for arguments in ([], ["--origin"]):
        done = subprocess.run(
            [binary(), "config", "show", "--config", str(config), *arguments], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "reader" in done.stdout and "hush" not in done.stdout + done.stderr
