"""A member of a pair as the daemon has it, but its Asterisk is a test that hands it events: core, outbox, paired sink.

Run as a program it reads the events from a socket, from the first one at each start, as a journal would give them; its
outbox knows how many of them have been decided already.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from arimonitor_core.directory import Client, Directory, MqServer
from arimonitor_core.effects import PublishMessage
from arimonitor_core.inputs import AriEventReceived, CallsNumbered, ConnectionLost, ConnectionRestored, Input
from arimonitor_core.monitor import Monitor
from arimonitor_runner.broker import Broker
from arimonitor_runner.logs import configure_logs
from arimonitor_runner.outbox import Appended, Outbox
from arimonitor_runner.outbox_marks import callnumber_mark
from arimonitor_runner.pair import PairedSink
from arimonitor_runner.settings import BrokerSettings, LogSettings, PairSettings
from benchmarks.call_template import CallTemplate

SERVER = "pbx"
BROKER = BrokerSettings(backoff_first_s=0.02, backoff_max_s=0.2, open_per_s_max=1000.0, window=20)
MARK = "events/pbx"

Events = Sequence[tuple[float, bytes]]


@frozen(kw_only=True)
class Site:
    """Where the members meet, and where the clients' messages go."""

    meeting_url: str
    clients_url: str
    meeting_vhost: str
    clients_vhost: str

    def directory(self) -> Directory:
        """One client; its vhost may be on another server than the meeting."""
        return Directory.of(
            clients=[Client(code="112", vhost=self.clients_vhost, mq_server="clients")],
            mq_servers=[MqServer(name="meeting", url=self.meeting_url), MqServer(name="clients", url=self.clients_url)],
        )


class Station:
    """One member, as an asynchronous context manager."""

    def __init__(
        self, site: Site, member: str, path: Path, *, heartbeat_s: int = 10, first_callnumber: int = 1
    ) -> None:
        self.member = member
        self.failures: list[BaseException] = []
        self.outbox = Outbox(path, synchronous="NORMAL", on_failure=self.failures.append)
        self._first_callnumber = first_callnumber
        directory = self.directory = site.directory()
        self.monitor = Monitor(server=SERVER, directory=directory)
        self.sink = PairedSink(
            self.outbox,
            directory,
            PairSettings(member=member, vhost=site.meeting_vhost, heartbeat_s=heartbeat_s),
            BROKER,
            server=SERVER,
            make_broker=self._make_broker,
            feed=self._feed,
            live_numbers=self._live_numbers,
            on_failure=self.failures.append,
        )
        self.given: list[CallsNumbered] = []
        self._last_at = 0.0
        self.position = 0

    async def __aenter__(self) -> Station:
        await self.outbox.open()
        highest = await self.outbox.mark(callnumber_mark(SERVER))
        self.monitor.book.next_callnumber = max(highest + 1, self._first_callnumber)
        await self.sink.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sink.close()
        await self.outbox.close()
        assert self.failures == []

    async def take(self, events: Events) -> Appended:
        """Hear events; what they lead to is stored and offered, unless that was done in an earlier life."""
        return await self._decide([AriEventReceived(received_at, raw) for received_at, raw in events])

    async def lose_and_find(self, channels: Sequence[dict[str, Any]]) -> Appended:
        """Lose the connection to Asterisk after what was heard last, and find these channels."""
        at = self._last_at + 1
        restored = ConnectionRestored(received_at=at + 1, channels=json.dumps(channels).encode())
        return await self._decide([ConnectionLost(received_at=at), restored])

    async def _decide(self, inputs: Sequence[Input]) -> Appended:
        done = await self.outbox.mark(MARK)
        messages = []
        for item in inputs:
            self.position += 1
            self._last_at = item.received_at
            effects = self.monitor.handle(item)
            if self.position > done:
                messages += [effect for effect in effects if isinstance(effect, PublishMessage)]
        appended = await self.outbox.append(messages, marks={MARK: self.position})
        self.sink.offer(appended.stored)
        return appended

    async def is_empty(self) -> bool:
        """Is nothing left to be delivered?"""
        return not await self.outbox.counts()

    def _make_broker(self, store: Any, directory: Directory) -> Broker:
        return Broker(store, directory, BROKER, server=SERVER, on_failure=self.failures.append)

    def _feed(self, numbered: CallsNumbered) -> None:
        self.given.append(numbered)
        self.monitor.handle(numbered)

    def _live_numbers(self) -> dict[str, int]:
        return {call.guid: call.callnumber for call in self.monitor.book.calls.values() if call.callnumber}


def build_events(count: int, *, wave: int = 10, backwards: bool = False) -> list[tuple[float, bytes]]:
    """So many answered calls, `wave` of them at a time, event by event in turn, the first or the last one first."""
    template = CallTemplate()
    events = []
    for first in range(0, count, wave):
        numbers = list(range(first, min(first + wave, count)))
        calls = [template.make(number) for number in (reversed(numbers) if backwards else numbers)]
        for turn in zip(*calls, strict=True):
            events += turn
    return events


class Exchange:
    """The socket that stations read their events from: all since the beginning, then each as it happens."""

    def __init__(self) -> None:
        self.events: dict[str, list[tuple[float, bytes]]] = {}
        self._released = 0
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Exchange:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def release(self, count: int) -> None:
        """Let so many events in all happen."""
        async with self._changed:
            self._released = count
            self._changed.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            events = self.events[(await reader.readline()).decode().strip()]
            sent = 0
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda sent=sent: self._released > sent)
                piece, sent = events[sent : self._released], self._released
                writer.writelines(b"%f %b\n" % event for event in piece)
                await writer.drain()
        except OSError:  # the station was killed
            pass
        finally:
            self._tasks.discard(task)
            writer.close()


async def run_station(site: Site, member: str, path: Path, port: int) -> None:
    """Take events until the socket ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    writer.write(member.encode() + b"\n")
    async with Station(site, member, path) as station:
        rest = b""
        while data := await reader.read(2**16):
            *lines, rest = (rest + data).split(b"\n")
            events = [line.split(b" ", 1) for line in lines]
            await station.take([(float(received_at), raw) for received_at, raw in events])
    writer.close()


def main() -> None:
    """Run one member: SITE as JSON, MEMBER, PATH of its outbox, PORT of the events."""
    parser = argparse.ArgumentParser()
    for name, kind in {"site": json.loads, "member": str, "path": Path, "port": int}.items():
        parser.add_argument(name, type=kind)
    arguments = parser.parse_args()
    configure_logs(evolve(LogSettings(), format="json"))
    asyncio.run(run_station(Site(**arguments.site), arguments.member, arguments.path, arguments.port))


if __name__ == "__main__":
    main()
