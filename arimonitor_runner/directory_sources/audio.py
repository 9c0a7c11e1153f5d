"""Audio servers from text: `audioservers.def`, one section each, named as clients name it.

::

    [audio]
    url = ftp://voip:${AUDIO_PASSWORD}@10.0.0.7/voip1    ; or ftps://
    base_url = http://audio.example/voip1/
    weight = 2                                           ; twice its share; 0: only when no other works

    [audio2]
    url = ssh://voip@10.0.0.8:22/srv/audio/voip1
    base_url = http://audio2.example/voip1/
    key = /etc/arimonitor/audio2_key                     ; or a password in url
    known_hosts = /etc/arimonitor/known_hosts
    lame = /usr/bin/lame                                 ; LAME there

`channels` is how many files may be on their way to a server, `ca` names the certificates that ftps trusts, and
`verify = N` has it trust any. A folder of ftp is relative to where a login begins; after two slashes it is not. One of
ssh begins at the root; after /~/ at the user's home.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from typed_settings import SecretStr

from arimonitor_runner.directory_sources.asterisk_conf import ParsedConf, Section, Setting
from arimonitor_runner.directory_sources.placeholders import fill_in, find_missing
from arimonitor_runner.directory_sources.problems import Severity
from arimonitor_runner.recordings import AudioServer, Transport

Report = Callable[[Section | Setting, str, Severity], None]

_PORTS: Mapping[str, tuple[Transport, int]] = {"ftp": ("ftp", 21), "ftps": ("ftps", 21), "ssh": ("ssh", 22)}
_KEYS = frozenset({"url", "base_url", "weight", "channels", "key", "known_hosts", "ca", "verify", "lame"})
_ONLY_FOR = {"key": {"ssh"}, "known_hosts": {"ssh"}, "lame": {"ssh"}, "ca": {"ftps"}, "verify": {"ftps"}}
_FLAGS = {"y": True, "yes": True, "s": True, "sim": True, "n": False, "no": False, "nao": False, "não": False}


def read_audio_servers(conf: ParsedConf, environ: Mapping[str, str], report: Report) -> tuple[AudioServer, ...]:
    """The audio servers of a file, in its order. A section that is faulty is left out, and `report` is told."""
    servers: dict[str, AudioServer] = {}
    for section in conf.sections:
        if section.is_template:
            continue
        server = _SectionReader(section, environ, report).read()
        if server is not None:
            if server.name in servers:
                report(section, f"audio server {section.name} stands here again; this one counts", "warning")
            servers[server.name] = server
    return tuple(servers.values())


class _SectionReader:
    """Reads one section."""

    def __init__(self, section: Section, environ: Mapping[str, str], report: Report) -> None:
        self._section = section
        self._environ = environ
        self._report = report

    def read(self) -> AudioServer | None:
        """The server; None where it cannot be used."""
        for setting in self._section.settings:
            if setting.name.lower() not in _KEYS:
                self._say(setting, f"unknown key {setting.name}", "note")
        url, base_url = self._read_url(), self._read_base_url()
        if url is None or not base_url:
            return None
        transport, port = _PORTS[url.scheme]
        for name, transports in _ONLY_FOR.items():
            useless = self._section.find_last(name)
            if useless is not None and transport not in transports:
                self._say(useless, f"{name} means nothing for {transport}", "warning")
        path = unquote(url.path)
        return AudioServer(
            name=self._section.name,
            base_url=base_url,
            transport=transport,
            host=url.hostname or "",
            port=url.port or port,
            user=unquote(url.username or ""),
            password=SecretStr(unquote(url.password or "")),
            folder=path.removeprefix("/~/") if transport == "ssh" else path.removeprefix("/"),
            weight=self._read_number("weight", 1, 0),
            channels_max=self._read_number("channels", 4, 1),
            key_file=self._read_path("key"),
            known_hosts=self._read_path("known_hosts"),
            ca_file=self._read_path("ca"),
            verify=self._read_flag("verify"),
            lame=self._value("lame") or "lame",
        )

    def _read_url(self) -> SplitResult | None:
        """Where it is. Its text never gets into a problem: it may hold a password."""
        setting = self._section.find_last("url")
        if setting is None:
            self._say(self._section, "no url; left out")
            return None
        missing = find_missing(setting.value, self._environ)
        if missing:
            self._say(setting, f"not in the environment: {missing}; left out")
            return None
        try:
            url = urlsplit(fill_in(setting.value, self._environ))
            is_good = url.scheme in _PORTS and bool(url.hostname and url.username) and url.port != 0
        except ValueError:
            is_good = False
        # A line of FTP ends at a line feed.
        if not is_good or not unquote(url.path + (url.username or "") + (url.password or "")).isprintable():
            self._say(setting, "url is not ftp://user:password@host:port/folder, ftps:// or ssh://; left out")
            return None
        return url

    def _read_base_url(self) -> str:
        """What a file's name is appended to."""
        setting = self._section.find_last("base_url")
        if setting is None:
            self._say(self._section, "no base_url; left out")
            return ""
        try:
            url = urlsplit(setting.value)
            is_good = url.scheme in {"http", "https"} and bool(url.hostname) and not url.query and not url.fragment
        except ValueError:
            is_good = False
        if not is_good:
            self._say(setting, "base_url is not http://host/folder/; left out")
            return ""
        return setting.value if setting.value.endswith("/") else setting.value + "/"

    def _read_number(self, name: str, default: int, least: int) -> int:
        setting = self._section.find_last(name)
        if setting is None:
            return default
        if not (setting.value.isascii() and setting.value.isdigit() and least <= int(setting.value) <= 1000):
            self._say(setting, f"{name} is no number from {least} to 1000; taken as {default}")
            return default
        return int(setting.value)

    def _read_flag(self, name: str) -> bool:
        setting = self._section.find_last(name)
        if setting is None:
            return True
        if setting.value.lower() not in _FLAGS:
            self._say(setting, f"{name}: neither Y nor N; taken as Y")
        return _FLAGS.get(setting.value.lower(), True)

    def _read_path(self, name: str) -> Path | None:
        setting = self._section.find_last(name)
        if setting is None or not setting.value:
            return None
        path = Path(setting.value)
        if not path.exists():
            self._say(setting, f"{name}: there is no file {path}", "warning")
        return path

    def _value(self, name: str) -> str:
        setting = self._section.find_last(name)
        return setting.value if setting is not None else ""

    def _say(self, where: Section | Setting, text: str, severity: Severity = "error") -> None:
        self._report(where, f"audio server {self._section.name}: {text}", severity)
