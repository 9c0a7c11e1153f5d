"""`arimonitor outbox` on a real file: what it shows, what it changes, what it refuses."""

import asyncio
import json
import sqlite3

import pytest
from attrs import evolve
from click.testing import CliRunner

from arimonitor_runner.cli import main
from tests.runner.delivery import SETTINGS, delivering, directory
from tests.runner.orders_heard import run_with_and_without_daemon
from tests.runner.test_outbox import opened


@pytest.fixture
def filled(outbox_path, message, run):
    """Parked and pending messages of two vhosts, and a call without one."""

    async def fill():
        async with opened(outbox_path) as outbox:
            calls = (("a", "v1"), ("b", "v2"), ("c", ""), ("d", ""))
            messages = [message(call, status, vhost=vhost) for call, vhost in calls for status in ("open", "closed")]
            stored = (await outbox.append(messages)).stored
            outbox.park(stored[0].seq, "returned: 312 NO_ROUTE")
            outbox.park(stored[2].seq, "returned: 312 NO_ROUTE")

    run(fill())
    return outbox_path


def outbox(*arguments, path):
    return CliRunner().invoke(main, ["outbox", arguments[0], "--path", str(path), *arguments[1:]])


def states(path):
    """Each message's vhost and state."""
    rows = sqlite3.connect(path).execute("SELECT message_id, vhost, state FROM messages ORDER BY seq")
    return {message_id: (vhost, state) for message_id, vhost, state in rows}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--vhost", "v1"], [{"command": "retry-parked", "vhost": "v1"}]),
        ([], [{"command": "retry-parked", "vhost": None}]),
        (["--message-id", "a:open"], []),
    ],
)
def test_a_running_daemon_hears_of_a_vhost_to_be_tried_again(filled, tmp_path, run, options, told):
    """Not of a single message: it would try all the others too."""
    command = ("outbox", "retry", *options)
    (first, _), heard = run(run_with_and_without_daemon(tmp_path, filled, "retry-parked", *command))
    assert first.exit_code == 0, first.output
    assert heard == told
    assert ("v1", "parked") not in states(filled).values()


def test_the_list_says_what_waits_and_why(filled):
    """By vhost and state, as a table and as JSON."""
    result = outbox("list", path=filled)
    assert result.exit_code == 0
    row = next(line for line in result.stdout.splitlines() if "v1" in line and "parked" in line)
    assert "returned: 312 NO_ROUTE" in row
    lines = [json.loads(line) for line in outbox("list", "--format", "ndjson", path=filled).stdout.splitlines()]
    assert [(line["vhost"], line["state"], line["messages"], line["attempts_max"]) for line in lines] == [
        ("", "parked", 4, 0),
        ("v1", "parked", 1, 1),
        ("v1", "pending", 1, 0),
        ("v2", "parked", 1, 1),
        ("v2", "pending", 1, 0),
    ]
    assert "no vhost" in lines[0]["reason"]


def test_single_messages_are_listed_with_their_bodies(filled):
    """Enough to send them by other means."""
    lines = outbox("list", "--messages", "--vhost", "v1", "--format", "ndjson", path=filled).stdout.splitlines()
    first, second = map(json.loads, lines)
    assert (first["message_id"], first["state"], second["message_id"]) == ("a:open", "parked", "a:closed")
    assert first["body"] == {"data": {"guid": "a", "channelstatus": "open"}}
    table = outbox("list", "--messages", "--vhost", "v1", path=filled).stdout
    assert "a:open" in table
    assert "b:open" not in table


def test_a_body_that_is_no_json_is_shown_as_it_is(filled, message, run):
    """Whatever it is, it can be looked at."""

    async def add():
        async with opened(filled) as box:
            await box.append([message("odd", vhost="v3", body=b"\xffodd")])

    run(add())
    (line,) = outbox("list", "--messages", "--vhost", "v3", "--format", "ndjson", path=filled).stdout.splitlines()
    assert json.loads(line)["body"] == "\ufffdodd"


def test_an_empty_outbox_says_so(outbox_path, run):
    """In words."""

    async def make():
        async with opened(outbox_path):
            pass

    run(make())
    assert outbox("list", path=outbox_path).stdout == "No message waits.\n"


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        ([], {"a:open": "v1", "b:open": "v2"}),
        (["--vhost", "v2"], {"b:open": "v2"}),
        (["--message-id", "a:open"], {"a:open": "v1"}),
        (["--message-id", "c:closed", "--to-vhost", "v9"], {"c:open": "v9", "c:closed": "v9"}),
        (
            ["--all-without-vhost", "--to-vhost", "v9"],
            {"c:open": "v9", "c:closed": "v9", "d:open": "v9", "d:closed": "v9"},
        ),
    ],
    ids=["all", "vhost", "message", "call without vhost", "all without vhost"],
)
def test_retried_messages_are_pending_again(filled, run, arguments, changed):
    """Those that are meant, and no others; where one gets a vhost, the rest of its call goes with it."""
    before = states(filled)
    result = outbox("retry", *arguments, path=filled)
    assert result.exit_code == 0
    word = "message" if len(changed) == 1 else "messages"
    assert result.stdout == f"{len(changed)} {word} to be tried again\n"
    assert states(filled) == before | {message_id: (vhost, "pending") for message_id, vhost in changed.items()}


def test_dropped_messages_are_gone(filled):
    """One, or all of a vhost where that is confirmed."""
    assert outbox("drop", "--message-id", "a:open", path=filled).stdout == "1 message dropped\n"
    assert "a:open" not in states(filled)
    refused = outbox("drop", "--vhost", "v2", path=filled)
    assert (refused.exit_code, "--yes" in refused.stderr) == (2, True)
    assert outbox("drop", "--vhost", "v2", "--yes", path=filled).stdout == "2 messages dropped\n"
    assert set(states(filled)) == {"a:closed", "c:open", "c:closed", "d:open", "d:closed"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["retry", "--all-without-vhost"],
        ["retry", "--to-vhost", "v9"],
        ["retry", "--all-without-vhost", "--message-id", "c:open", "--to-vhost", "v9"],
        ["retry", "--vhost", "v1", "--message-id", "c:open", "--to-vhost", "v9"],
        ["drop"],
        ["drop", "--vhost", "v1", "--message-id", "a:open"],
    ],
)
def test_what_is_not_clear_is_refused(filled, arguments):
    """With status 2 and nothing changed."""
    before = states(filled)
    assert outbox(*arguments, path=filled).exit_code == 2
    assert states(filled) == before


def test_a_name_that_is_not_there_is_said(filled):
    """Status 1: a script notices."""
    result = outbox("retry", "--message-id", "nothing", path=filled)
    assert (result.exit_code, result.stdout) == (1, "0 messages to be tried again\n")


def test_a_file_that_is_no_outbox_is_left_alone(tmp_path, filled):
    """Nothing is made, nothing is upgraded; the file is named."""
    missing = tmp_path / "missing.db"
    result = outbox("list", path=missing)
    assert (result.exit_code, result.stderr) == (2, f"error: {missing}: unable to open database file\n")
    assert not missing.exists()
    empty = tmp_path / "empty.db"
    empty.touch()
    assert "not an outbox" in outbox("retry", path=empty).stderr
    with sqlite3.connect(filled) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    connection.close()
    assert "schema version 99" in outbox("list", path=filled).stderr


def test_the_file_is_found_through_the_settings(filled, tmp_path, monkeypatch):
    """A configuration file, named or in the environment; faults in it are told."""
    file = tmp_path / "arimonitor.toml"
    file.write_text(f'[arimonitor.outbox]\npath = "{filled}"\n')
    result = CliRunner().invoke(main, ["outbox", "list", "--config", str(file)])
    assert (result.exit_code, "v1" in result.stdout) == (0, True)
    monkeypatch.setenv("ARIMONITOR_OUTBOX_PATH", str(filled))
    assert CliRunner().invoke(main, ["outbox", "list"]).exit_code == 0
    file.write_text("[arimonitor.outbox]\nrows_max = 0\n")
    result = CliRunner().invoke(main, ["outbox", "list", "--config", str(file)])
    assert (result.exit_code, "outbox.rows_max" in result.stderr) == (2, True)


def test_a_running_daemon_takes_up_what_was_given_a_vhost(outbox_path, rabbit, vhost, message, run):
    """Beside the daemon's own writing, without a restart."""
    settings = evolve(SETTINGS, parked_retry_s=0.2)

    async def scenario():
        async with delivering(outbox_path, directory(rabbit.url, vhost), settings) as delivery:
            await delivery.send(message("homeless", vhost=""), message("homeless", "closed", vhost=""))
            arguments = ("retry", "--all-without-vhost", "--to-vhost", vhost)
            result = await asyncio.to_thread(outbox, *arguments, path=outbox_path)
            assert result.stdout == "2 messages to be tried again\n"
            await delivery.until_empty()

    run(scenario())
    delivered = rabbit.consume(vhost, 2)
    assert [properties.message_id for _, properties, _ in delivered] == ["homeless:open", "homeless:closed"]
