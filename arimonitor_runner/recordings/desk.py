"""Sees every recording through: found, finished, converted, uploaded, verified, published; or given up, with a reason.

Each step is in the ledger before the next one begins, so after a crash each recording goes on where it was, and a step
that was interrupted is done again from its beginning. A few workers do it, as tasks; what needs the disk for long is
done in threads or other processes. Nothing here ever fails the daemon: what goes wrong is tried again, with growing
pauses and on another server, until it is given up and said so.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import structlog
from attrs import asdict, define

from arimonitor_core.directory import Client, Directory
from arimonitor_runner.recordings import AudioServer, Lame, RecordingError, Tags, lame, wav
from arimonitor_runner.recordings.audio import Audio, RemoteConverter, Transport
from arimonitor_runner.recordings.ledger import Entry, Ledger
from arimonitor_runner.recordings.names import Spool
from arimonitor_runner.recordings.retention import Retention
from arimonitor_runner.settings import RecordingsSettings
from arimonitor_runner.sinks import StoredMessage

LOOK_S = 60.0
"""Longest time between two looks into the ledger: another process may have changed it."""
STANDBY_S = 5.0
"""Time between two looks whether it is our turn."""
TIDY_S = 600.0
OTHERS_S = 3600.0
"""What another member of a pair has told of is its business for so long."""

_REDONE = {"finished": "found"}
"""Where a step that failed begins anew: a file may have vanished or changed before it was converted."""

_T = TypeVar("_T")

_log = structlog.get_logger()


@define
class Counts:
    """What happened since the start."""

    stored: int = 0
    given_up: int = 0
    failures: int = 0
    """Attempts that failed."""
    refused: int = 0
    """Paths that lead where no recording may lie."""


class Desk:
    """The recordings of one daemon. `run` is its task."""

    def __init__(  # the parts are joined here
        self,
        ledger: Ledger,
        settings: RecordingsSettings,
        *,
        directory: Directory,
        audio: Audio,
        offer: Callable[[Sequence[StoredMessage]], None],
        clock: Callable[[], float] = time.time,
        is_active: Callable[[], bool] = lambda: True,
    ) -> None:
        """Join the parts.

        Args:
            ledger: what is to be done.
            settings: how.
            directory: who converts where.
            audio: where to.
            offer: told of messages that can be delivered now.
            clock: Unix seconds.
            is_active: is it ours to do? Of a pair, only who publishes does it.
        """
        self._ledger = ledger
        self._settings = settings
        self._directory = directory
        self._servers = audio.servers
        self._transports = audio.transports
        self._offer = offer
        self._clock = clock
        self._is_active = is_active
        self._spool = Spool(settings.folders, settings.path_map)
        self._retention = Retention(ledger, settings, self._spool, clock)
        self._lame = Lame(
            program=settings.lame,
            bitrate_kbit_s=settings.bitrate_kbit_s,
            nice=settings.nice,
            timeout_s=settings.lame_timeout_s,
        )
        self._workers: dict[asyncio.Task[None], Entry] = {}
        self._looks: dict[int, wav.WavLook] = {}
        self._tried: dict[int, set[str]] = {}
        self._fresh: set[int] = set()
        """Converted by this process, and nothing of it has gone anywhere yet."""
        self._nudged = asyncio.Event()
        self._tidy_at = clock()
        self._tidying: asyncio.Task[None] | None = None
        self.counts = Counts()

    def statistics(self) -> dict[str, int]:
        """What happened since the start, by name."""
        return asdict(self.counts)

    @property
    def busy(self) -> int:
        """How many recordings are being worked on."""
        return len(self._workers)

    def nudge(self) -> None:
        """There is something new in the ledger."""
        self._nudged.set()

    def use_directory(self, directory: Directory) -> None:
        """Follow a change of clients."""
        self._directory = directory
        self.nudge()

    async def run(self) -> None:
        """Work until cancelled; what is under way is abandoned then and goes on after the next start."""
        try:
            while True:
                self._nudged.clear()
                try:
                    timeout_s = await self._turn() if self._is_active() else await self._stand_by()
                except Exception:  # a fault of our own must not keep the calls from being told
                    _log.exception("the recordings' ledger could not be worked on")
                    timeout_s = LOOK_S
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s):
                        await self._nudged.wait()
        finally:
            tasks = [*self._workers, *([self._tidying] if self._tidying is not None else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._transports.close()

    async def _turn(self) -> float:
        """Do what is due; gives how long nothing else is, in seconds."""
        now = self._clock()
        for message_id in await self._ledger.overdue(now):
            await self._release(message_id)
        room = self._settings.workers - len(self._workers)
        if room > 0:
            for entry in await self._ledger.due(now, room, list(self._workers.values())):
                task = asyncio.create_task(self._see_through(entry), name=f"recording {entry.id}")
                self._workers[task] = entry
                task.add_done_callback(self._on_done)
        if now >= self._tidy_at and (self._tidying is None or self._tidying.done()):
            self._tidy_at = now + TIDY_S
            self._tidying = asyncio.create_task(self._tidy(), name="recordings: tidy")
        # What is due by now is being worked on or waits for a worker, and each one that ends is a nudge.
        due_at = await self._ledger.next_due_at(now)
        return LOOK_S if due_at is None else min(max(due_at - self._clock(), 0.0), LOOK_S)

    async def _tidy(self) -> None:
        try:
            await self._retention.tidy()
        except Exception:  # of our own making; nothing is removed then
            _log.exception("the recordings could not be tidied")

    async def _stand_by(self) -> float:
        """Another member of the pair does it."""
        await self._ledger.leave_to_others(self._clock() - OTHERS_S)
        return STANDBY_S

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._workers.pop(task, None)
        self._nudged.set()

    async def _release(self, message_id: str) -> None:
        """A message has waited long enough: it goes out with the links that its recordings will have."""
        for entry in await self._ledger.of_message(message_id):
            if entry.name and not entry.server and entry.step == "found":
                server = self._servers.choose(self._client(entry))
                if server is not None:
                    await self._ledger.update(entry, server=server.name, url=server.url_of(entry.name))
        _log.warning("a call's recordings are not stored yet: its last message goes out first", message_id=message_id)
        self._offer(await self._ledger.settle(message_id, is_due=True))

    # -- one recording -----------------------------------------------------------------------------------------

    async def _see_through(self, entry: Entry) -> None:
        """Do one step after another, as far as it goes."""
        try:
            while (following := await self._step(entry)) is not None:
                entry = following
        except RecordingError as error:
            await self._fail(entry, error)
        except Exception as error:  # of our own making; the others go on
            _log.exception("a recording could not be worked on", path=entry.path)
            await self._fail(entry, RecordingError(f"{type(error).__name__}: {error}"))

    async def _step(self, entry: Entry) -> Entry | None:
        """Do the next step; None: it is done, or has to wait."""
        steps: dict[str, Callable[[Entry], Awaitable[Entry | None]]] = {
            "found": self._finish,
            "finished": self._convert,
            "converted": self._upload,
            "uploaded": self._verify,
            "verified": self._publish,
        }
        return await steps[entry.step](entry)

    async def _finish(self, entry: Entry) -> Entry | None:
        """See that the WAV is complete."""
        try:
            path = await asyncio.to_thread(self._spool.locate, entry.path)
        except RecordingError:
            self.counts.refused += 1
            raise
        look = await asyncio.to_thread(wav.examine, path, seen=self._looks.get(entry.id))
        if look.status == "damaged" and look.can_be_mended:
            _log.warning("a WAV is mended", path=str(path), reason=look.reason)
            await asyncio.to_thread(wav.mend, path)
            look = await asyncio.to_thread(wav.examine, path, seen=look)
        self._looks[entry.id] = look
        if look.status == "finished":
            self._looks.pop(entry.id)
            return await self._advance(entry, "finished", wav_bytes=look.size_bytes, attempts=0)
        is_final = look.status in {"empty", "damaged"} or (
            look.status == "missing" and self._age_s(entry) > self._settings.missing_after_s
        )
        raise RecordingError(f"{path}: {look.reason}", is_final=is_final)

    async def _convert(self, entry: Entry) -> Entry | None:
        """Make the MP3, here or where it will be."""
        path = await asyncio.to_thread(self._spool.locate, entry.path)
        server = await self._choose(entry)
        entry = await self._place(entry, server)
        tags = Tags(
            callnumber=entry.callnumber,
            origin=entry.origin,
            destiny=entry.destiny,
            started_at=entry.created_ms / 1000,
        )
        transport = self._transports.of(server)
        if self._is_remote(entry) and isinstance(transport, RemoteConverter):
            work = transport.upload_and_convert(path, entry.name, tags, self._lame)
            size = await self._at(server, entry, work)
            return await self._advance(entry, "uploaded", mp3_bytes=size, sha256="")
        mp3 = self._mp3(entry)
        try:
            await asyncio.to_thread(mp3.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise RecordingError(f"{mp3.parent}: {error.strerror}") from error
        size = await lame.convert(path, mp3, tags, self._lame)
        self._fresh.add(entry.id)
        digest = await asyncio.to_thread(_digest, mp3)
        return await self._advance(entry, "converted", mp3_bytes=size, sha256=digest, attempts=0)

    async def _upload(self, entry: Entry) -> Entry | None:
        """Bring the MP3 to its server, unless it is there already."""
        mp3 = self._mp3(entry)
        if await asyncio.to_thread(_digest, mp3) != entry.sha256:
            return await self._back(entry, "finished")
        server = await self._choose(entry)
        # Where it was interrupted after the last byte, the file is there: it need not go twice.
        may_be_there = server.name == entry.server and entry.id not in self._fresh
        self._fresh.discard(entry.id)
        entry = await self._place(entry, server)
        transport: Transport = self._transports.of(server)
        there = await self._at(server, entry, transport.size(entry.name)) if may_be_there else None
        if there != entry.mp3_bytes:
            await self._at(server, entry, transport.upload(mp3, entry.name))
        return await self._advance(entry, "uploaded")

    async def _verify(self, entry: Entry) -> Entry | None:
        """Ask the server what it has."""
        server = self._servers.find(entry.server)
        if server is None:
            return await self._back(entry, _before_upload(entry))
        size = await self._at(server, entry, self._transports.of(server).size(entry.name))
        if size != entry.mp3_bytes:
            there = "nothing" if size is None else f"{size} bytes"
            raise self._blame(server, entry, f"{entry.name}: {there} there instead of {entry.mp3_bytes} bytes")
        self._servers.worked(server)
        self.counts.stored += 1
        _log.info("recording stored", url=entry.url, mp3_bytes=entry.mp3_bytes, callnumber=entry.callnumber)
        return await self._advance(entry, "verified")

    async def _publish(self, entry: Entry) -> None:
        """Tell of it, with the other recordings of its call where their message waits for them."""
        # Where it has to wait for the others, it waits as long as the message does.
        later = self._clock() + max(self._settings.max_wait_s, 1.0)
        messages = await self._ledger.settle(entry.message_id, entry=entry, changes={"next_try_at": later})
        self._forget(entry)
        self._offer(messages)

    async def _fail(self, entry: Entry, error: RecordingError) -> None:
        """Try again later, on another server where that may help, or give it up."""
        self.counts.failures += 1
        if error.is_final or self._age_s(entry) > self._settings.give_up_after_s:
            await self._give_up(entry, error.reason)
            return
        pause_s = min(self._settings.backoff_first_s * 2.0 ** min(entry.attempts, 60), self._settings.backoff_max_s)
        tried = self._tried.setdefault(entry.id, set())
        if error.is_server and self._servers.choose(self._client(entry), exclude=tried) is not None:
            pause_s = 0.0
        elif error.is_server:
            tried.clear()  # none is left: begin again with the first
        tell = _log.debug if entry.step == "found" else _log.warning
        tell("a recording has to wait", path=entry.path, step=entry.step, reason=error.reason, retry_in_s=pause_s)
        step = _before_upload(entry) if entry.step == "uploaded" else _REDONE.get(entry.step, entry.step)
        next_try_at = self._clock() + pause_s
        await self._ledger.update(
            entry, step=step, attempts=entry.attempts + 1, error=error.reason, next_try_at=next_try_at
        )

    async def _give_up(self, entry: Entry, reason: str) -> None:
        self.counts.given_up += 1
        _log.error("a recording is lost", path=entry.path, callnumber=entry.callnumber, reason=reason)
        changes = {"step": "given-up", "error": reason, "attempts": entry.attempts + 1}
        messages = await self._ledger.settle(entry.message_id, entry=entry, changes=changes)
        self._forget(entry)
        self._offer(messages)

    # -- helpers -----------------------------------------------------------------------------------------------

    async def _advance(self, entry: Entry, step: str, **changes: object) -> Entry:
        """A step is done."""
        return await self._ledger.update(entry, step=step, next_try_at=self._clock(), **changes)

    async def _back(self, entry: Entry, step: str) -> Entry:
        """A step has to be done again."""
        return await self._ledger.update(entry, step=step, next_try_at=self._clock())

    async def _choose(self, entry: Entry) -> AudioServer:
        """The server that was chosen, as long as it works; else another one."""
        tried = self._tried.get(entry.id, set())
        server = self._servers.find(entry.server) if entry.server and entry.server not in tried else None
        server = server or self._servers.choose(self._client(entry), exclude=tried)
        if server is None:
            raise RecordingError("the directory names no audio server for it")
        return server

    async def _place(self, entry: Entry, server: AudioServer) -> Entry:
        """Write down where it goes, before anything of it gets there."""
        if entry.server == server.name and entry.url == server.url_of(entry.name):
            return entry
        return await self._ledger.update(entry, server=server.name, url=server.url_of(entry.name))

    def _client(self, entry: Entry) -> Client | None:
        return self._directory.clients.get(entry.client)

    def _is_remote(self, entry: Entry) -> bool:
        client = self._client(entry)
        return client is not None and client.ftp_wav

    async def _at(self, server: AudioServer, entry: Entry, work: Awaitable[_T]) -> _T:
        """Do something at a server; where it fails there, the server is the one to blame."""
        try:
            return await work
        except RecordingError as error:
            if error.is_server:
                self._blame(server, entry, error.reason)
            raise

    def _blame(self, server: AudioServer, entry: Entry, reason: str) -> RecordingError:
        """A server did not do what it should: the next attempt is made elsewhere."""
        self._servers.failed(server, reason)
        self._tried.setdefault(entry.id, set()).add(server.name)
        return RecordingError(reason, is_server=True)

    def _mp3(self, entry: Entry) -> Path:
        return self._retention.mp3_of(entry)

    def _forget(self, entry: Entry) -> None:
        self._looks.pop(entry.id, None)
        self._tried.pop(entry.id, None)
        self._fresh.discard(entry.id)

    def _age_s(self, entry: Entry) -> float:
        return self._clock() - entry.ended_ms / 1000


def _before_upload(entry: Entry) -> str:
    """The step from which a recording has to be brought to a server again."""
    return "converted" if entry.sha256 else "finished"


def _digest(path: Path) -> str:
    """SHA-256 of a file; empty where there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
