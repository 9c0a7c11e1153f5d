"""From the WAV that Asterisk wrote to a link that works: converted, uploaded, verified.

What the parts of this package tell each other:

* `wav.examine(path, seen=...)` is a quick look at a recording, `wav.mend(path)` repairs its header;
* `lame.convert(wav, mp3, tags, lame)` makes the MP3 here;
* `transports.Transports().of(server)` gives what moves files to an audio server (`Ftp` or `Ssh`, one for each server,
  with the connections it keeps): `await upload(local, name)` and `await size(name)` give bytes there (`size` None: no
  such file); `Ssh` has `await upload_and_convert(wav, name, tags, lame)` as well. `await Transports.close()` ends them;
* `servers.AudioServers` chooses among the audio servers and remembers which of them work:
  `choose(client, exclude=...)` (the directory's Client or None, names of servers; gives None where none is left),
  `find(name)`, `failed(server, reason)`, `worked(server)`, and `replace(servers)` after the directory was read anew;
* `audio.Audio` joins servers and transports for the desk, and has what it needs of both as protocols;
* `names` says which file is meant, `ledger` how far each recording is, `steps` sees one through, `desk` all of them,
  `retention` tidies up.

What fails raises `RecordingError` and nothing else. A task that is cancelled or killed leaves nothing half done under a
final name; what it leaves under a temporary one is overwritten by the next attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from attrs import frozen
from typed_settings import SecretStr

Transport = Literal["ftp", "ftps", "ssh"]

NAME_BYTES_MAX = 200
"""A temporary name is somewhat longer, and 255 is the most that file systems take."""


class RecordingError(Exception):
    """A step that failed.

    Attributes:
        reason: one line for an operator: what failed, and the words of LAME or of the server. It holds no password.
        is_final: trying again is useless, here and on any other server (an empty WAV).
        is_server: an audio server is at fault, not the recording: another server may do.
    """

    def __init__(self, reason: str, *, is_final: bool = False, is_server: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_final = is_final
        self.is_server = is_server


@frozen(kw_only=True)
class Tags:
    """What the MP3 says of its call."""

    callnumber: int
    origin: str
    """Any text: it comes from a telephone."""
    destiny: str
    started_at: float
    """Unix seconds."""


@frozen(kw_only=True)
class Lame:
    """How recordings are converted, here and on an audio server."""

    program: str = "lame"
    """Name or path of the program here; an audio server may name its own."""
    bitrate_kbit_s: int = 24
    """Constant, mono. LAME's own choice for speech of 8 kHz, 8 kbit/s, is too low."""
    nice: int = 10
    """How far the conversion stands back behind all else, 0 to 19."""
    timeout_s: float = 600.0


@frozen(kw_only=True)
class AudioServer:
    """One server that keeps MP3s and serves them over HTTP."""

    name: str
    """Its section in the directory: audio, audio2."""
    base_url: str
    """What a file's name is appended to; ends in a slash."""
    transport: Transport
    host: str
    port: int
    user: str
    password: SecretStr = SecretStr("")  # noqa: RUF009  # immutable
    key_file: Path | None = None
    """Private key for ssh; without it and without a password the usual keys and the agent are tried."""
    known_hosts: Path | None = None
    """Host keys for ssh; None: ~/.ssh/known_hosts. An unknown host is never accepted."""
    ca_file: Path | None = None
    """Certificates that ftps trusts; None: those of the system."""
    verify: bool = True
    """False takes any certificate of ftps."""
    folder: str = ""
    """Where files go there; without a leading slash relative to where a login begins."""
    weight: int = 1
    """Its share among the servers of a client; 0: only when no other works."""
    lame: str = "lame"
    """LAME on that server."""
    connect_timeout_s: float = 15.0
    transfer_timeout_s: float = 60.0
    """Longest wait for any one step on the wire, not for a whole file."""
    channels_max: int = 4
    """Files on their way to it at the same time."""

    def url_of(self, name: str) -> str:
        """The link to a file of that name."""
        return self.base_url + name


def check_name(name: str) -> None:
    """See that a file's name is one, and not more, wherever it is used: a path, a line of FTP, a shell's word.

    Raises:
        RecordingError: it is not; final.
    """
    is_plain = name.isprintable() and "/" not in name and not name.startswith((".", "-"))
    if not name or not is_plain or len(name.encode(errors="replace")) > NAME_BYTES_MAX:
        raise RecordingError(f"{name[:60]!r} is no name for a recording", is_final=True)


__all__: Sequence[str] = ("NAME_BYTES_MAX", "AudioServer", "Lame", "RecordingError", "Tags", "Transport", "check_name")
