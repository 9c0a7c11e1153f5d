"""Recorded calls of a captured Asterisk, under as many numbers as a test needs, with WAVs where the daemon looks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attrs import frozen

from arimonitor_core.directory import Client, Directory
from arimonitor_core.effects import StoreRecordings
from arimonitor_core.inputs import AriEventReceived
from arimonitor_core.monitor import Monitor
from benchmarks.call_template import CallTemplate
from tests.runner.audio_servers import PASSWORD, USER, FtpServer
from tests.runner.sounds import write_wav


@frozen
class RecordedCall:
    """One answered call."""

    guid: str
    wav: Path
    seconds: float
    """Of its recording."""
    events: list[dict[str, Any]]
    """What Asterisk says of it."""

    @property
    def name(self) -> str:
        """What its MP3 is called."""
        return f"{self.wav.stem}.mp3"


class Recorder:
    """Makes recorded calls."""

    def __init__(self, spool: Path) -> None:
        """Name the folder where the daemon finds what Asterisk records."""
        self._spool = spool
        self._template = CallTemplate()
        self.calls: list[RecordedCall] = []
        self.spool_of_asterisk = self._store(0).files[0].path.rpartition("/")[0]

    def make(self, seconds: float) -> RecordedCall:
        """Make one more call, with a recording of so many seconds."""
        number = len(self.calls)
        store = self._store(number)
        (file,) = store.files
        wav = write_wav(self._spool / file.path.rpartition("/")[2], seconds)
        events = [json.loads(raw) for _, raw in self._template.make(number)]
        self.calls.append(RecordedCall(store.guid, wav, seconds, events))
        return self.calls[-1]

    def _store(self, number: int) -> StoreRecordings:
        """What the core will want to be stored."""
        monitor = Monitor(server="pbx", directory=Directory.of(clients=[Client(code="112", vhost="t")]))
        inputs = [AriEventReceived(received_at, raw) for received_at, raw in self._template.make(number)]
        effects = [effect for item in inputs for effect in monitor.handle(item)]
        (store,) = [effect for effect in effects if isinstance(effect, StoreRecordings)]
        return store

    def options(self, folder: Path) -> dict[str, str]:
        """A daemon's settings for this spool, with its other files in a folder; nothing of it is given up by itself."""
        return {
            "recordings_folders": str(self._spool),
            "recordings_path_map": f"{self.spool_of_asterisk}={self._spool}",
            "recordings_work_folder": f"{folder}/work",
            "recordings_missing_after_s": "1e9",
            "recordings_give_up_after_s": "1e9",
            "recordings_backoff_first_s": "0.05",
            "recordings_backoff_max_s": "0.2",
        }


def describe_ftp(server: FtpServer, base_url: str, name: str = "audio") -> str:
    """The section of `audioservers.def` for an FTP server."""
    url = f"ftp://{USER}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{server.port}/voip1"
    return f"[{name}]\nurl = {url}\nbase_url = {base_url}\n"
