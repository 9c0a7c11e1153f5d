"""`arimonitor asterisk-config`: what Asterisk's own configuration must hold for the settings in force."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import click

from arimonitor_runner import settings_sources as sources
from arimonitor_runner.ari.channelvars import RECOMMENDED
from arimonitor_runner.settings import AmiSettings, AriSettings, Settings

HEAD = "; === {name} ==="
"""Begins each file."""
WATCH_USER = "arimonitor"
"""Where the settings name no manager user yet."""


@click.command()
@click.option("--config", "file", type=click.Path(path_type=Path), help="The daemon's TOML file.")
@click.option("--mode", type=click.Choice(["inbound", "outbound"]), help="As if ari.mode were this.")
def asterisk_config_command(file: Path | None, mode: str | None) -> None:
    """Print what belongs into Asterisk's configuration files, for the settings in force.

    Secrets are not printed: <NAME> stands for what has to be put there, most often the environment variable of that
    name.
    """
    try:
        loaded = sources.load_settings(file or sources.environment_file(), {"ari.mode": mode} if mode else {})
    except sources.SettingsError as error:
        raise click.ClickException(str(error)) from error
    for line in describe_asterisk(loaded.settings):
        click.echo(line)


def describe_asterisk(settings: Settings) -> Iterator[str]:
    """Give the lines of all files, each after a line like HEAD; sections that exist already have to be merged."""
    ari, ami = settings.ari, settings.ami
    is_outbound = ari.mode == "outbound"
    yield from _file("ari.conf", _ari_conf(ari, is_outbound=is_outbound))
    if is_outbound:
        yield from _file("websocket_client.conf", _websocket_client_conf(ari))
    yield from _file("http.conf", _http_conf(ari))
    yield from _file("manager.conf", _manager_conf(ami))
    yield from _file("pjsip.conf", _pjsip_conf())


def _file(name: str, lines: Iterator[str]) -> Iterator[str]:
    yield HEAD.format(name=name)
    yield from lines
    yield ""


def _ari_conf(ari: AriSettings, *, is_outbound: bool) -> Iterator[str]:
    yield "[general]"
    yield "enabled = yes"
    yield "; with these in every channel snapshot a quarter of the traffic is enough"
    yield RECOMMENDED
    yield ""
    yield f"[{ari.user}]"
    yield "type = user"
    yield "password = <ARIMONITOR_ARI_PASSWORD>"
    yield "; subscribing and setting the event filter are writes"
    yield "read_only = no"
    if is_outbound:
        yield ""
        yield "; Asterisk 22.5 or newer; while nobody listens, events stay in Asterisk's memory without limit"
        yield f"[{ari.application}-outbound]"
        yield "type = outbound_websocket"
        yield f"websocket_client_id = {ari.application}-client"
        yield f"apps = {ari.application}"
        yield "subscribe_all = yes"
        yield f"local_ari_user = {ari.user}"


def _websocket_client_conf(ari: AriSettings) -> Iterator[str]:
    host = "<ADDRESS OF ARIMONITOR>" if ari.listen_host in ("0.0.0.0", "::") else ari.listen_host  # noqa: S104  # compared
    host = f"[{host}]" if ":" in host else host
    yield f"[{ari.application}-client]"
    yield "type = websocket_client"
    yield "connection_type = persistent"
    yield f"uri = ws://{host}:{ari.listen_port}{ari.listen_path}"
    yield "protocols = ari"
    yield f"username = {ari.listen_user}"
    yield "password = <ARIMONITOR_ARI_LISTEN_PASSWORD>"


def _http_conf(ari: AriSettings) -> Iterator[str]:
    parts = urlsplit(ari.url)
    is_tls = parts.scheme == "https"
    host = _address(parts.hostname or "")
    port = parts.port or (443 if is_tls else 80)
    yield "[general]"
    yield "enabled = yes"
    if is_tls:
        yield "tlsenable = yes"
        yield f"tlsbindaddr = {host}:{port}"
        yield "tlscertfile = <CERTIFICATE>"
        yield "tlsprivatekey = <PRIVATE KEY>"
    else:
        yield f"bindaddr = {host}"
        yield f"bindport = {port}"


def _manager_conf(ami: AmiSettings) -> Iterator[str]:
    host = _address(ami.host or "127.0.0.1")
    if not ami.user:
        yield f"; only used where ami.host and ami.user (here: {WATCH_USER}) are set"
    yield "[general]"
    yield "enabled = yes"
    yield f"bindaddr = {host}"
    yield f"port = {ami.port}"
    yield ""
    yield "; command: for `core show taskprocessors`, the queues in which events wait"
    yield f"[{ami.user or WATCH_USER}]"
    yield "secret = <ARIMONITOR_AMI_PASSWORD>"
    yield "deny = 0.0.0.0/0.0.0.0"
    yield f"permit = {'127.0.0.0/255.0.0.0' if host.startswith('127.') else '<ADDRESS OF ARIMONITOR>'}"
    yield "displayconnects = no"
    yield "read ="
    yield "write = command"


def _pjsip_conf() -> Iterator[str]:
    yield "; of two sections of this name Asterisk takes the first: add the last line to the one that is there"
    yield "[global]"
    yield "type = global"
    yield "; a queue that overflows elsewhere must not make PJSIP ignore calls"
    yield "taskprocessor_overload_trigger = pjsip_only"


def _address(host: str) -> str:
    """Give what can be bound to: an address as it is, a name as a hint."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        return str(ip_address(host))
    except ValueError:
        return f"<ADDRESS OF {host}>"
