"""The directory from text: clients, PJSIP endpoints and RabbitMQ servers in files of Asterisk's syntax.

Clients (`__CLIENTES__.DEF`), one section each, named by its code::

    [112]
    nome = PV - Residencial Vila Madalena
    vhost = vila-madalena                     ; RabbitMQ virtual host
    mqserver = mq1                            ; a section of mqservers.def; without it the first one there
    ftpwav = N                                ; Y: recordings are converted on the audio server
    audio = audio,audio2                      ; sections of audioservers.def; without it all of them
    ringgroup => 1120, 1121&1122              ; rung at the same time
    ringgroup => 1125, 1122,1123              ; one after another

    [ia]
    entradas = 94, 95                         ; numbers of the AI; without this 94

Endpoints (`endpoints_pjsip.def`) are the sections with `type = endpoint`, as PJSIP reads them, and
`set_var = TIPO=unidade` gives the type. `set_var = CLIENTE=112`, or an `accountcode` that is a client's code, gives the
client of an endpoint whose number does not begin with it. A section that is no number and has no TIPO is a trunk:
nobody's extension.

RabbitMQ servers (`mqservers.def`)::

    [mq1]
    url = amqp://arimonitor:${MQ_PASSWORD}@10.0.0.5:5672

Audio servers stand in `audioservers.def` (`arimonitor_runner.directory_sources.audio`).

`${NAME}` comes from the environment. Beside other text, in front of the `@`, it stands for a user or a password as they
are, whatever characters they hold; a value that is only `${NAME}` is a whole URL.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from attrs import frozen

from arimonitor_core.directory import (
    CLIENT_CODE_LENGTH,
    DEFAULT_AI_ENTRIES,
    Client,
    Directory,
    Endpoint,
    MqServer,
    RingGroup,
)
from arimonitor_runner.directory_sources.asterisk_conf import ParsedConf, Section, Setting, read_conf
from arimonitor_runner.directory_sources.audio import read_audio_servers
from arimonitor_runner.directory_sources.placeholders import fill_in, find_missing
from arimonitor_runner.directory_sources.problems import Problem, ProblemCollector, Severity
from arimonitor_runner.recordings import AudioServer

AI_SECTION = "ia"

_NUMBER = re.compile(r"\+?[0-9*#]+")
_YES = frozenset({"y", "yes", "s", "sim", "true", "t", "on", "1"})
_NO = frozenset({"n", "no", "nao", "não", "false", "f", "off", "0"})
_CLIENT_KEYS = frozenset({"nome", "vhost", "mqserver", "ftpwav", "audio", "ringgroup"})


@frozen(kw_only=True)
class DirectoryFiles:
    """Names of the files, inside the directory's folder or absolute."""

    clients: str = "__CLIENTES__.DEF"
    endpoints: str = "endpoints_pjsip.def"
    mq_servers: str = "mqservers.def"
    audio_servers: str = "audioservers.def"


@frozen(kw_only=True)
class LoadedDirectory:
    """A directory, as far as its files could be read, and what was wrong with them."""

    directory: Directory
    audio_servers: tuple[AudioServer, ...] = ()
    """Where recordings go; they are no part of what calls are decided by."""
    problems: tuple[Problem, ...] = ()
    is_usable: bool = True
    """False: neither clients nor endpoints could be read."""


def load_directory(
    folder: Path, environ: Mapping[str, str], names: DirectoryFiles = DirectoryFiles()
) -> LoadedDirectory:
    """Read the files of a folder.

    `environ` is where `${NAME}` comes from. Faults become problems: an entry that is faulty is left out or goes on with
    a default, as its problem says, and takes no other entry with it.
    """
    reader = _TextReader(environ)
    servers_path = folder / names.mq_servers
    mq_servers = reader.read_mq_servers(servers_path) if servers_path.exists() else None
    if mq_servers is None:
        reader.problems.add(str(servers_path), 0, "no such file: the directory names no RabbitMQ servers", "note")
    clients_conf = reader.read(folder / names.clients)
    endpoints_conf = reader.read(folder / names.endpoints)
    audio_servers = reader.read_audio_servers(folder / names.audio_servers)
    clients = reader.read_clients(clients_conf, mq_servers, {server.name for server in audio_servers})
    endpoints = reader.read_endpoints(endpoints_conf, clients)
    directory = Directory(
        clients=clients,
        endpoints=endpoints,
        ring_groups=reader.read_ring_groups(clients_conf, clients, endpoints),
        ai_entries=reader.read_ai_entries(clients_conf),
        mq_servers=mq_servers or {},
    )
    is_usable = clients_conf.was_read or endpoints_conf.was_read
    problems = reader.problems.collected()
    return LoadedDirectory(directory=directory, audio_servers=audio_servers, problems=problems, is_usable=is_usable)


class _TextReader:
    """Reads the meaning of parsed files, collecting problems."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.problems = ProblemCollector()
        self._environ = environ

    def read(self, path: Path) -> ParsedConf:
        """Parse a file; its syntax problems join ours."""
        conf = read_conf(path)
        for problem in conf.problems:
            self.problems.add(problem.path, problem.line, problem.text, problem.severity)
        return conf

    def read_clients(
        self, conf: ParsedConf, mq_servers: Mapping[str, MqServer] | None, audio_servers: Collection[str]
    ) -> dict[str, Client]:
        """Clients by code."""
        clients: dict[str, Client] = {}
        for section in conf.sections:
            if section.is_template or section.name.lower() == AI_SECTION:
                continue
            if not _is_client_code(section.name):
                text = f"[{section.name}] is neither a client's code of {CLIENT_CODE_LENGTH} digits nor [{AI_SECTION}]"
                self._report(section, f"{text}; left out", "warning")
                continue
            if section.name in clients:
                self._report(section, f"client {section.name} stands here again; this one counts", "warning")
            clients[section.name] = self._read_client(section, mq_servers, audio_servers)
        return clients

    def _read_client(
        self, section: Section, mq_servers: Mapping[str, MqServer] | None, audio_servers: Collection[str]
    ) -> Client:
        for setting in section.settings:
            if setting.name.lower() not in _CLIENT_KEYS:
                self._report(setting, f"client {section.name}: unknown key {setting.name}", "note")
        vhost = _value(section.find_last("vhost"))
        if not vhost:
            self._report(section, f"client {section.name} has no vhost: none of its messages can be sent", "warning")
        mq_server = section.find_last("mqserver")
        # Without the file there is nothing to compare with, and its absence has been noted.
        if mq_server and mq_servers is not None and mq_server.value not in mq_servers:
            self._report(mq_server, f"client {section.name}: no RabbitMQ server is called {mq_server.value}")
        return Client(
            code=section.name,
            name=_value(section.find_last("nome")),
            vhost=vhost,
            mq_server=_value(mq_server),
            ftp_wav=self._read_flag(section.find_last("ftpwav")),
            audio=self._read_audio(section, audio_servers),
        )

    def _read_audio(self, section: Section, audio_servers: Collection[str]) -> tuple[str, ...]:
        """The audio servers that a client names, those that there are; empty: all may take its recordings."""
        setting = section.find_last("audio")
        names = dict.fromkeys(filter(None, (part.strip() for part in _value(setting).split(","))))
        unknown = [name for name in names if name not in audio_servers]
        if setting is not None and unknown:
            text = f"client {section.name}: no audio server is called {', '.join(unknown)}"
            self._report(setting, text if len(unknown) < len(names) else f"{text}; all may take its recordings")
        return tuple(name for name in names if name in audio_servers)

    def _read_flag(self, setting: Setting | None) -> bool:
        word = _value(setting).lower()
        if setting is not None and word not in _YES | _NO:
            self._report(setting, f"{setting.name}: neither Y nor N: {setting.value[:20]}; taken as N")
        return word in _YES

    def read_ring_groups(
        self, conf: ParsedConf, clients: Mapping[str, Client], endpoints: Mapping[str, Endpoint]
    ) -> dict[str, RingGroup]:
        """Ring groups by number."""
        groups: dict[str, RingGroup] = {}
        settings: dict[str, Setting] = {}
        for section in conf.sections:
            if section.is_template or section.name not in clients:
                continue
            for setting in section.find_all("ringgroup"):
                group = self._read_ring_group(setting, section.name)
                if group is None:
                    continue
                if group.number in groups:
                    self._report(setting, f"ring group {group.number} stands here again; this one counts", "warning")
                groups[group.number] = group
                settings[group.number] = setting
        for number, group in groups.items():
            if number in endpoints:
                self._report(settings[number], f"{number} is an endpoint too; it counts as a ring group", "warning")
            for member in group.members:
                if member not in endpoints and member not in groups:
                    text = f"ring group {number}: member {member} is neither an endpoint nor a group"
                    self._report(settings[number], text, "note")
        return groups

    def _read_ring_group(self, setting: Setting, client: str) -> RingGroup | None:
        number, _, rest = (part.strip() for part in setting.value.partition(","))
        if not _NUMBER.fullmatch(number):
            self._report(setting, f"client {client}: a ring group begins with its number; left out")
            return None
        members = tuple(member for member in (part.strip() for part in re.split("[,&]", rest)) if member)
        if not members:
            self._report(setting, f"ring group {number} has no members", "warning")
        if "&" in rest and "," in rest:
            self._report(
                setting, f"ring group {number} rings both ways, & and ,: taken as one after another", "warning"
            )
        return RingGroup(
            number=number, members=members, strategy="sequential" if "," in rest else "parallel", client=client
        )

    def read_ai_entries(self, conf: ParsedConf) -> frozenset[str]:
        """Numbers of the AI: those given, or the default where the files give none."""
        settings = [
            setting
            for section in conf.sections
            if section.name.lower() == AI_SECTION and not section.is_template
            for setting in section.find_all("entradas")
        ]
        if not settings:
            return DEFAULT_AI_ENTRIES
        return frozenset(entry for setting in settings for entry in self._read_entries(setting))

    def _read_entries(self, setting: Setting) -> Iterator[str]:
        for entry in filter(None, (part.strip() for part in setting.value.split(","))):
            if _NUMBER.fullmatch(entry):
                yield entry
            else:
                self._report(setting, f"{entry[:40]} is no number; left out")

    def read_endpoints(self, conf: ParsedConf, clients: Mapping[str, Client]) -> dict[str, Endpoint]:
        """Endpoints by number."""
        endpoints: dict[str, Endpoint] = {}
        for section in conf.sections:
            if section.is_template or _value(section.find_last("type")).lower() != "endpoint":
                continue
            variables = _variables(section)
            endpoint_type = variables.get("tipo", "")
            if not endpoint_type:
                if not _NUMBER.fullmatch(section.name):
                    self._report(section, f"endpoint {section.name} has no number and no TIPO: a trunk", "note")
                    continue
                self._report(section, f"endpoint {section.name} has no TIPO", "warning")
            if section.name in endpoints:
                self._report(section, f"endpoint {section.name} stands here again; this one counts", "warning")
            endpoints[section.name] = Endpoint(
                number=section.name,
                type=endpoint_type,
                client=self._client_of(section, variables, clients),
            )
        return endpoints

    def _client_of(self, section: Section, variables: Mapping[str, str], clients: Mapping[str, Client]) -> str:
        """The client that an endpoint names; empty where its number decides."""
        named = variables.get("cliente", "")
        if named and named not in clients:
            self._report(section, f"endpoint {section.name}: there is no client {named}")
        # An account code may mean anything; it is a client only where it is one's code.
        for code in (named, _value(section.find_last("accountcode"))):
            if code in clients:
                return "" if section.name.startswith(code) else code
        return ""

    def read_mq_servers(self, path: Path) -> dict[str, MqServer]:
        """RabbitMQ servers by name, in the order given."""
        servers: dict[str, MqServer] = {}
        for section in self.read(path).sections:
            if section.is_template:
                continue
            setting = section.find_last("url")
            if setting is None:
                self._report(section, f"RabbitMQ server {section.name} has no url; left out")
                continue
            url = self._read_url(setting, section.name)
            if url:
                if section.name in servers:
                    self._report(
                        section, f"RabbitMQ server {section.name} stands here again; this one counts", "warning"
                    )
                servers[section.name] = MqServer(name=section.name, url=url)
        return servers

    def read_audio_servers(self, path: Path) -> tuple[AudioServer, ...]:
        """Audio servers, in the order given; none where there is no file."""
        return read_audio_servers(self.read(path), self._environ, self._report) if path.exists() else ()

    def _read_url(self, setting: Setting, server: str) -> str:
        """A server's URL without a virtual host; empty where it cannot be used. Its text never gets into a problem."""
        missing = find_missing(setting.value, self._environ)
        if missing:
            self._report(setting, f"RabbitMQ server {server}: not in the environment: {missing}; left out")
            return ""
        try:
            url = urlsplit(fill_in(setting.value, self._environ))
            is_good = url.scheme in {"amqp", "amqps"} and bool(url.hostname) and url.port != 0
        except ValueError:
            is_good = False
        if not is_good:
            self._report(setting, f"RabbitMQ server {server}: url is not amqp://user:password@host:port; left out")
            return ""
        if url.path not in {"", "/"}:
            text = f"RabbitMQ server {server}: the virtual host in url is not used, each client has its own"
            self._report(setting, text, "warning")
        return urlunsplit(url._replace(path="", fragment=""))

    def _report(self, where: Section | Setting, text: str, severity: Severity = "error") -> None:
        self.problems.add(where.path, where.line, text, severity)


def _value(setting: Setting | None) -> str:
    return setting.value if setting is not None else ""


def _is_client_code(name: str) -> bool:
    return len(name) == CLIENT_CODE_LENGTH and name.isascii() and name.isdigit()


def _variables(section: Section) -> dict[str, str]:
    """Channel variables that an endpoint sets, by name in lower case; the last of a name counts."""
    variables: dict[str, str] = {}
    for setting in section.find_all("set_var", "setvar"):
        name, _, value = setting.value.partition("=")
        # Leading underscores say that dialed channels inherit the variable; they are not part of its name.
        variables[name.strip().lstrip("_").lower()] = value.strip()
    return variables
