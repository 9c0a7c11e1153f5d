"""What an operator can set, with its default and its reason.

A value comes from, each overruling the one before: the default here, the TOML file, an environment variable
(`ARIMONITOR_` and the path: ARIMONITOR_ARI_PASSWORD for `ari.password`), a command-line option (`--ari-url`). Names
that end in `_s` are seconds. Secrets are `SecretStr`: they print as asterisks.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import typed_settings as ts
from attrs import Attribute, field, frozen
from attrs.validators import ge, gt, in_, le, matches_re, max_len, min_len

ENVIRONMENT_PREFIX = "ARIMONITOR_"

LEAN_EVENTS = (
    "ApplicationReplaced",
    "BridgeAttendedTransfer",
    "BridgeBlindTransfer",
    "BridgeMerged",
    "ChannelCreated",
    "ChannelDestroyed",
    "ChannelDtmfReceived",
    "ChannelEnteredBridge",
    "ChannelHangupRequest",
    "ChannelHold",
    "ChannelLeftBridge",
    "ChannelStateChange",
    "ChannelUnhold",
    "ContactStatusChange",
    "Dial",
    "EndpointStateChange",
    "PeerStatusChange",
)
"""All that a call needs: every message is decided from these where `channelvars` come with the snapshots."""


ALL_EVENTS = "*"
"""In the place of event types: all of them."""


def _http_url(_instance: object, attribute: Attribute[str], value: str) -> None:
    # The text never shows the value: somebody may have put a password into it.
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{attribute.name} must look like http://HOST:8088")
    if parts.username is not None or parts.query:
        raise ValueError(f"{attribute.name} must not hold credentials: they belong into user and password")


def _help(text: str, default: Any, *validators: Any) -> Any:
    return ts.option(default=default, help=text, validator=list(validators) or None)


@frozen(kw_only=True)
class AriSettings:
    """The Asterisk that is listened to."""

    url: str = _help("Asterisk's HTTP server: http://HOST:8088, or https.", "http://127.0.0.1:8088", _http_url)
    user: str = _help("ARI user; it must not be read_only, because subscribing is a write.", "arimonitor", min_len(1))
    password: ts.SecretStr = ts.secret(  # noqa: RUF009  # an attrs field
        default=ts.SecretStr(""), help="Its password. Better in ARIMONITOR_ARI_PASSWORD than on the command line."
    )
    mode: Literal["inbound", "outbound"] = _help(
        "inbound: we connect to Asterisk. outbound: Asterisk 22 connects to us and keeps events while we are away; "
        "its risks are in docs/operating.md.",
        "inbound",
        in_(("inbound", "outbound")),
    )
    listen_host: str = _help("Where Asterisk finds us where the mode is outbound.", "127.0.0.1", min_len(1))
    listen_port: int = _help("Its port.", 8765, ge(0), le(65535))
    listen_path: str = _help("The path in Asterisk's websocket_client.conf.", "/ari", matches_re(r"/[!-~]*"))
    listen_user: str = _help("What Asterisk must name itself there.", "pbx", min_len(1))
    listen_password: ts.SecretStr = ts.secret(  # noqa: RUF009  # an attrs field
        default=ts.SecretStr(""), help="Its password. Better in ARIMONITOR_ARI_LISTEN_PASSWORD. Needed for outbound."
    )
    application: str = _help(
        "Stasis application name. A second monitor with the same name takes over from the first.",
        "arimonitor",
        min_len(1),
        max_len(64),
    )
    events: tuple[str, ...] = _help(
        "ARI event types that Asterisk shall send; all others it filters out at the source. *: all.",
        LEAN_EVENTS,
        min_len(1),
    )
    channelvars: Literal["auto", "yes", "no"] = _help(
        "Do channel snapshots hold ari.conf's channelvars? Where they do, ChannelVarset is not needed. auto: look.",
        "auto",
        in_(("auto", "yes", "no")),
    )
    request_timeout_s: float = _help("Longest wait for the answer to one REST request.", 10.0, gt(0))
    confirm_wait_s: float = _help(
        "Wait before Asterisk's channels are listed once more, where the first list is in doubt after a reconnect.",
        2.0,
        ge(0),
    )
    handshake_timeout_s: float = _help("Longest wait for the websocket handshake.", 10.0, gt(0))
    ping_interval_s: float = _help("Time between two pings on the websocket; silence says nothing in ARI.", 5.0, gt(0))
    ping_timeout_s: float = _help("The connection counts as lost when a ping stays unanswered so long.", 10.0, gt(0))
    queue_max: int = _help(
        "Events that may wait in memory. More, and the connection is given up and taken up again.", 200_000, ge(1000)
    )
    message_bytes_max: int = _help("Largest websocket message taken, in bytes.", 16 * 2**20, ge(2**16))
    backoff_first_s: float = _help("Ceiling of the first wait before a reconnect; it doubles each time.", 1.0, gt(0))
    backoff_max_s: float = _help("Highest ceiling of that wait. Reconnects cost Asterisk something.", 30.0, gt(0))
    backoff_deadlock_s: float = _help(
        "Wait where Asterisk answers REST but no handshake: it is then usually stuck for good.", 60.0, gt(0)
    )
    stable_after_s: float = _help("A connection that held so long starts the back-off anew.", 60.0, gt(0))
    watch_interval_s: float = _help(
        "Time between two looks whether Asterisk's event system still works; 0: none.", 60.0, ge(0)
    )


@frozen(kw_only=True)
class AmiSettings:
    """Asterisk's manager interface: awaited before the start, and asked for its queues if there is a user."""

    host: str = _help("Its host; empty: not looked at.", "")
    port: int = _help("Its port.", 5038, gt(0))
    user: str = _help("Manager user with the class command; empty: Asterisk's queues are not watched.", "")
    password: ts.SecretStr = ts.secret(  # noqa: RUF009  # an attrs field
        default=ts.SecretStr(""), help="Its secret. Better in ARIMONITOR_AMI_PASSWORD than on the command line."
    )
    wait_max_s: float = _help("How long the start waits for it before it goes on without.", 60.0, ge(0))


@frozen(kw_only=True)
class DirectorySettings:
    """Clients, endpoints and MQ servers."""

    folder: Path = _help(  # noqa: RUF009  # an attrs field
        "Where __CLIENTES__.DEF, endpoints_pjsip.def, mqservers.def and audioservers.def are.",
        Path("/etc/arimonitor/directory"),
    )
    default_vhost: str = _help(
        "Vhost for calls of which no number belongs to a client; empty: they are kept back and reported.", ""
    )


@frozen(kw_only=True)
class BrokerSettings:
    """How messages are delivered to RabbitMQ."""

    mode: Literal["auto", "rabbitmq", "local"] = _help(
        "local: only log messages, deliver nowhere. auto: local where the directory names no MQ server.",
        "auto",
        in_(("auto", "rabbitmq", "local")),
    )
    declare: bool = _help("Declare exchange, queue and binding in each vhost.", True)
    exchange: str = _help("Topic exchange.", "arimonitor", min_len(1))
    queue: str = _help("Quorum queue that is bound to all of it.", "arimonitor", min_len(1))
    window: int = _help("Messages of one vhost on their way at the same time.", 100, ge(1))
    heartbeat_s: int = _help("AMQP heartbeat.", 30, ge(1))
    connect_timeout_s: float = _help("Longest wait until a connection is open and declared.", 15.0, gt(0))
    confirm_timeout_s: float = _help("A connection that leaves a message unconfirmed so long is dropped.", 15.0, gt(0))
    blocked_timeout_s: float = _help("Likewise where the broker blocks (memory, disk) so long.", 300.0, gt(0))
    backoff_first_s: float = _help(
        "Ceiling of the first wait before another attempt; it doubles each time.", 0.5, gt(0)
    )
    backoff_max_s: float = _help("Highest ceiling of that wait.", 30.0, gt(0))
    open_per_s_max: float = _help("Connections opened per second, over all vhosts.", 20.0, gt(0))
    parked_retry_s: float = _help(
        "A vhost's messages that no queue took are tried again after this; it doubles up to an hour.", 60.0, gt(0)
    )
    idle_close_s: float = _help("Close a vhost's connection after so long without a message; 0: never.", 0.0, ge(0))


@frozen(kw_only=True)
class OutboxSettings:
    """Messages on disk until RabbitMQ confirmed them."""

    path: Path = _help(  # noqa: RUF009  # an attrs field
        "The SQLite file.", Path("/var/lib/arimonitor/outbox.db")
    )
    sync: Literal["FULL", "NORMAL"] = _help(
        "FULL survives a power cut; NORMAL is faster on a slow disk and survives a crash of the daemon.",
        "FULL",
        in_(("FULL", "NORMAL")),
    )
    rows_max: int = _help(
        "With more messages than this the oldest endpoint-status are dropped; those of calls never are. Alarm at 80 %.",
        5_000_000,
        ge(1000),
    )


@frozen(kw_only=True)
class JournalSettings:
    """Every input of the core on disk, and snapshots of its state: what a restart goes on from."""

    folder: Path = _help(  # noqa: RUF009  # an attrs field
        "Journal segments, snapshots and the lock of the daemon that owns them.", Path("/var/lib/arimonitor/journal")
    )
    sync: Literal["each", "interval", "never"] = _help(
        "When the journal is forced to disk. All survive a crash of the daemon. A power cut takes nothing with each; "
        "with interval at most sync_interval_s of events that no message told of yet; with never whatever it wants.",
        "interval",
        in_(("each", "interval", "never")),
    )
    sync_interval_s: float = _help("Time between two syncs where sync is interval.", 1.0, gt(0))
    segment_bytes_max: int = _help(
        "A segment that reached this size on disk is followed by a new one.", 64 * 2**20, ge(2**16)
    )
    segment_age_max_s: float = _help("Likewise one of this age.", 3600.0, gt(0))
    keep_s: float = _help("Segments older than this are removed once no snapshot needs them.", 7 * 86400.0, ge(0))
    keep_bytes: int = _help("Likewise the oldest ones where all are larger than this.", 4 * 2**30, ge(0))
    snapshot_interval_s: float = _help(
        "Time between two snapshots; a restart replays the journal from the last one.", 300.0, gt(0)
    )
    snapshots_kept: int = _help("Snapshots kept, so that a damaged one is no loss.", 3, ge(1))


@frozen(kw_only=True)
class PairSettings:
    """Daemons that follow the same Asterisk, of which one at a time publishes."""

    member: str = _help("Name of this daemon among the members; empty: it is alone, and publishes.", "")
    members: tuple[str, ...] = _help("Names of all of them.", ("a", "b"), min_len(1))
    vhost: str = _help("Vhost of the first MQ server where they meet.", "voip", min_len(1))
    heartbeat_s: int = _help(
        "A member that RabbitMQ does not answer for so long stops publishing; after two to three times as long "
        "RabbitMQ lets another one publish.",
        10,
        ge(1),
    )
    queue_bytes_max: int = _help(
        "What is kept for a member that is away; the oldest goes first. It should be back before that.",
        2**30,
        ge(2**20),
    )


@frozen(kw_only=True)
class RecordingsSettings:
    """From the WAV to a link that works. Nothing of it happens where the directory names no audio server."""

    folders: tuple[str, ...] = _help(
        "Where Asterisk writes recordings; a path that leads elsewhere is refused.",
        ("/var/spool/asterisk/monitor",),
        min_len(1),
    )
    path_map: tuple[str, ...] = _help(
        "PREFIX=FOLDER: paths that Asterisk calls PREFIX are in FOLDER here (a chroot, a mount).", ()
    )
    work_folder: Path = _help(  # noqa: RUF009  # an attrs field
        "MP3s on their way to an audio server.", Path("/var/lib/arimonitor/recordings")
    )
    max_wait_s: float = _help("Longest time that closed and FORCECLOSE wait for their recordings.", 30.0, ge(0))
    workers: int = _help("Conversions at the same time; others are looked at or uploaded meanwhile.", 2, ge(1))
    missing_after_s: float = _help("A WAV that is not there so long after its call will not come.", 600.0, gt(0))
    give_up_after_s: float = _help("A recording that could not be stored in this time is given up.", 7 * 86400.0, gt(0))
    backoff_first_s: float = _help("Wait before another attempt; it doubles each time.", 1.0, gt(0))
    backoff_max_s: float = _help("Longest such wait.", 900.0, gt(0))
    keep_days: float = _help(
        "WAV and MP3 are removed here so long after they were stored and verified; -1: never.", 30.0, ge(-1)
    )
    keep_free_bytes: int = _help(
        "Likewise sooner, the oldest first, where their disk has less room than this.", 2 * 2**30, ge(0)
    )
    ledger_keep_days: float = _help("What is known of stored and lost recordings is forgotten after.", 90.0, gt(0))
    lame: str = _help("LAME: the program's name or path.", "lame", min_len(1))
    bitrate_kbit_s: int = _help("Constant bit rate of the MP3, mono.", 24, ge(8), le(320))
    nice: int = _help("How far the conversion stands back behind all else.", 10, ge(0), le(19))
    lame_timeout_s: float = _help("Longest time that one conversion may take.", 600.0, gt(0))


@frozen(kw_only=True)
class PolicySettings:
    """What the core decides by."""

    audio_base_url: str = _help("Recordings are linked as this and the file's name.", "http://audio.example/voip1/")
    push_types: tuple[str, ...] = _help("Endpoint types that are pushed when a call waits for them.", ("unidade",))
    push_wait_s: float = _help(
        "An endpoint of unknown state that nothing rings within this time counts as offline.", 0.5, ge(0)
    )
    call_update: bool = _help("Send call-update (8016) for transfers, hold and resume.", False)
    history_limit: int = _help("Ended calls that stay queryable.", 10_000, ge(0))


@frozen(kw_only=True)
class RecoverySettings:
    """Calls that ended while nobody listened."""

    forceclose_status: str = _help(
        "Spelling of channelstatus for them; set closed for a consumer that wants it.", "FORCECLOSE", min_len(1)
    )


@frozen(kw_only=True)
class LogSettings:
    """The daemon's own log, on standard error."""

    format: Literal["console", "json"] = _help(
        "For people, or one JSON object a line.", "console", in_(("console", "json"))
    )
    level: Literal["debug", "info", "warning", "error"] = _help(
        "Lowest severity shown.", "info", in_(("debug", "info", "warning", "error"))
    )


@frozen(kw_only=True)
class Settings:
    """Everything, by section."""

    server: str = ts.option(
        factory=socket.gethostname,
        help="Name of this Asterisk in every message. Part of every call's guid: do not change it. Default: host name.",
        validator=min_len(1),
    )
    pid_file: str = _help("Lock file with the process id, for other programs; empty: none.", "")
    drain_timeout_s: float = _help("When stopping, longest wait for RabbitMQ to confirm what it was sent.", 10.0, ge(0))
    ari: AriSettings = field(factory=AriSettings)
    ami: AmiSettings = field(factory=AmiSettings)
    directory: DirectorySettings = field(factory=DirectorySettings)
    broker: BrokerSettings = field(factory=BrokerSettings)
    outbox: OutboxSettings = field(factory=OutboxSettings)
    journal: JournalSettings = field(factory=JournalSettings)
    pair: PairSettings = field(factory=PairSettings)
    recordings: RecordingsSettings = field(factory=RecordingsSettings)
    policies: PolicySettings = field(factory=PolicySettings)
    recovery: RecoverySettings = field(factory=RecoverySettings)
    logs: LogSettings = field(factory=LogSettings)
