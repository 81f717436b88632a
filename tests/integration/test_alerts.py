"""Alerts by real apprise to a local webhook, a Slack-shaped one and a mail server, from real workers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from ryla_tasks.alerts.kinds import Severity
from ryla_tasks.alerts.sender import LEASE_S, AlertSender, Rules, new_token
from ryla_tasks.alerts.services import services_of
from ryla_tasks.errors import ConfigurationError
from ryla_tasks.store.alerts import AlertStore
from ryla_tasks.store.targets import TargetStore
from tests.support.fleet import Fleet, eventually
from tests.support.notified import Hooks, Mailbox


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    server = Hooks()
    yield server
    server.close()


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    server = Mailbox()
    yield server
    server.close()


def tell(fleet: Fleet, *names: str, kind: str = "breaker_open") -> None:
    targets = TargetStore(fleet.client, prefix="ryla")
    for name in names:
        assert targets.alert(f"{kind}:{name}", {"type": kind, "target": name}, quiet_s=900)


def sender(fleet: Fleet, *urls: str, lease_s: float = LEASE_S, per_hour: int = 10) -> AlertSender:
    """A sender that looks when it is told to."""
    store = AlertStore(fleet.client, prefix="ryla", token=new_token(), lease_s=lease_s)
    return AlertSender(store, services_of(tuple(map(SecretStr, urls))), Rules(Severity.WARNING, per_hour))


def test_two_workers_send_one_message(fleet: Fleet, hooks: Hooks, mailbox: Mailbox) -> None:
    urls = json.dumps([hooks.url("json"), mailbox.url])
    workers = fleet.workers(2, RYLA_ALERT_URLS=urls)
    tell(fleet, "runpod:a", "runpod:b")
    eventually(lambda: len(hooks.heard) >= 2 and len(mailbox.mails) >= 2, what="both at both")
    # The next one comes after them: what was to be doubled would be there by then.
    tell(fleet, "runpod:c")
    eventually(lambda: "runpod:c" in str(hooks.titles) and len(mailbox.mails) >= 3)
    assert [title.split()[2] for title in hooks.titles] == ["runpod:a", "runpod:b", "runpod:c"]
    assert len(mailbox.mails) == 3
    assert "Subject: [ryla] warning: runpod:a fails too often" in mailbox.mails[0]
    said = "".join(worker.text for worker in workers)
    assert "topsecret" not in said
    assert f"alert.sent service=json://127.0.0.1:{hooks.port}" in said
    assert said.count("alert.sent") == 6


@pytest.mark.load
def test_a_sender_that_is_killed_in_the_middle_sends_again_once_and_loses_nothing(fleet: Fleet, hooks: Hooks) -> None:
    hooks.hold.clear()
    worker = fleet.worker(RYLA_ALERT_URLS=hooks.url("json")).wait_ready()
    tell(fleet, "runpod:a")
    eventually(lambda: hooks.heard, what="the message has arrived, and is not answered")
    worker.kill()
    tell(fleet, "runpod:b")
    hooks.hold.set()
    # Its lease ends by itself; a test need not wait a minute for it.
    fleet.client.pexpire("ryla:alerts_sender", 100)
    fleet.worker(RYLA_ALERT_URLS=hooks.url("json")).wait_ready()
    eventually(lambda: "runpod:b" in str(hooks.titles))
    assert [title.split()[2] for title in hooks.titles] == ["runpod:a", "runpod:a", "runpod:b"]
    ids = [body["message"].rpartition("alert: ")[2] for _path, body in hooks.heard]
    assert ids[0] == ids[1] != ids[2]


def test_another_takes_over_when_a_sender_stops(fleet: Fleet, hooks: Hooks) -> None:
    one, other = sender(fleet, hooks.url("json")), sender(fleet, hooks.url("json"))
    one.look()
    tell(fleet, "runpod:a")
    other.look()
    assert hooks.heard == [], "it is not its turn"
    one.stop()
    other.look()
    assert len(hooks.heard) == 1


def test_over_the_limit_comes_one_digest(fleet: Fleet, hooks: Hooks) -> None:
    mine = sender(fleet, hooks.url("json"), per_hour=3)
    tell(fleet, *(f"runpod:{n}" for n in range(15)))
    mine.look()
    mine.look()
    assert len(hooks.heard) == 3
    # An hour later.
    ((service, told),) = fleet.client.hgetall("ryla:alerts_sent").items()
    document = json.loads(told)
    fleet.client.hset("ryla:alerts_sent", service, json.dumps({**document, "since": document["since"] - 3_601}))
    mine.look()
    assert hooks.titles[3:] == ["[ryla] warning: 12 more alerts"]
    tell(fleet, "runpod:x", "runpod:y", "runpod:z")
    mine.look()
    assert len(hooks.heard) == 6, "the digest is the first of three in the new hour"


def test_what_is_below_the_severity_is_not_sent(fleet: Fleet, hooks: Hooks) -> None:
    mine = sender(fleet, hooks.url("json"))
    tell(fleet, "runpod:a", kind="breaker_closed")
    mine.look()
    tell(fleet, "runpod:b")
    mine.look()
    assert len(hooks.heard) == 1
    assert "runpod:b" in hooks.titles[0]


def test_a_service_that_fails_is_tried_again_and_holds_up_no_other(
    fleet: Fleet, hooks: Hooks, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Hooks()
    broken.status = 500
    try:
        mine = sender(fleet, broken.url("json"), hooks.url("json"))
        tell(fleet, "runpod:a")
        mine.look()
        mine.look()
        assert (len(broken.heard), len(hooks.heard)) == (1, 1), "it is tried again after a pause"
        (line,) = [one.getMessage() for one in caplog.records if one.getMessage().startswith("alert.not_sent")]
        assert line.startswith(f"alert.not_sent service=json://127.0.0.1:{broken.port}")
        broken.status = 200
        another = sender(fleet, broken.url("json"), hooks.url("json"))
        mine.stop()
        another.look()
        assert (len(broken.heard), len(hooks.heard)) == (2, 1)
        assert "topsecret" not in caplog.text
    finally:
        broken.close()


def test_slack_is_told_in_its_own_shape(fleet: Fleet, hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    from apprise.plugins.slack import NotifySlack

    monkeypatch.setattr(NotifySlack, "webhook_url", f"http://127.0.0.1:{hooks.port}/services")
    url = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops"
    mine = sender(fleet, url)
    tell(fleet, "runpod:a")
    mine.look()
    ((path, body),) = hooks.heard
    assert path == "/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    assert body["channel"] == "#ops"
    assert "runpod:a fails too often" in json.dumps(body)
    assert repr(services_of((SecretStr(url),))) == "[Service(slack://...)]"


def test_an_address_that_is_none_is_told_without_what_is_secret() -> None:
    with pytest.raises(ConfigurationError) as caught:
        services_of((SecretStr("nosuch://user:topsecret@host/token"),))
    assert "nosuch://..." in str(caught.value)
    assert "topsecret" not in str(caught.value)


def ryla(fleet: Fleet, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ryla_tasks.cli", *arguments]
    return subprocess.run(command, env=fleet.env(**env), capture_output=True, text=True, timeout=60, check=False)


def test_the_command_line_lists_and_tests(fleet: Fleet, hooks: Hooks) -> None:
    tell(fleet, "runpod:a")
    (row,) = json.loads(ryla(fleet, "alerts", "--json").stdout)
    assert (row["kind"], row["severity"], row["target"]) == ("breaker_open", "warning", "runpod:a")
    assert "runpod:a fails too often" in ryla(fleet, "alerts").stdout
    dead = "json://someone:topsecret@127.0.0.1:9/x"
    done = ryla(fleet, "alerts", "test", RYLA_ALERT_URLS=f"{hooks.url('json')} {dead}")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"json://127.0.0.1:{hooks.port}: accepted", "json://127.0.0.1:9: NOT accepted",
    ]  # fmt: skip
    assert "topsecret" not in done.stdout + done.stderr
    assert len(hooks.heard) == 1
    assert ryla(fleet, "alerts", "test").returncode == 3
