"""Daemon processes between a fake ARI and a real RabbitMQ, and what they tell."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from contextlib import asynccontextmanager

from tests.runner.fake_ari import FakeAri
from tests.runner.processes import Process, daemon_arguments
from tests.runner.replays import capture, messages_of, split


def expected(name, vhost, first_callnumber=1):
    """(message_id, body) of all messages of a capture, for a directory in which each vhost is this one."""
    found = []
    for message in messages_of(capture(name), "pbx", first_callnumber):
        body = json.loads(message.body)
        body["operation"]["vhost"] = vhost
        found.append((message.message_id, body))
    return found


def shown(delivered):
    """(message_id, body) of what came out of RabbitMQ."""
    return [(properties.message_id, json.loads(body)) for _, properties, body in delivered]


def of_calls(messages):
    """By call, in order; messages of different calls have no order among each other."""
    calls = {}
    for message_id, body in messages:
        calls.setdefault(body["data"].get("guid", body["data"].get("endpoint")), []).append((message_id, body))
    return calls


@asynccontextmanager
async def daemon(tmp_path, url, directory, **settings):
    process = await Process.start(
        "arimonitor_runner.daemon", *daemon_arguments(url, str(tmp_path), str(directory), **settings)
    )
    try:
        yield process
    finally:
        await process.end(signal.SIGKILL)


@asynccontextmanager
async def playing(name):
    """A fake ARI that shows what a capture's Asterisk showed; and the capture's events."""
    answers, events = split(capture(name))
    async with FakeAri() as server:
        server.answers = answers
        yield server, events


def left_over(tmp_path):
    """Files of the daemon that are there after its end."""
    known = {"directory", "outbox.db", "run", "journal"}
    return sorted(p.name for p in tmp_path.iterdir() if p.name not in known) + sorted(os.listdir(tmp_path / "run"))


def stored(tmp_path):
    """What is in the outbox."""
    with sqlite3.connect(tmp_path / "outbox.db") as connection:
        rows = connection.execute("SELECT message_id, state FROM messages ORDER BY seq").fetchall()
    connection.close()
    return rows
