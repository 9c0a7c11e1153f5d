"""The configuration that is printed for Asterisk: what Asterisk's syntax makes of it, and no secret in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from arimonitor_runner.cli import main
from arimonitor_runner.directory_sources.asterisk_conf import parse_conf

SECRETS = {
    "ARIMONITOR_ARI_PASSWORD": "first-secret",
    "ARIMONITOR_ARI_LISTEN_PASSWORD": "second-secret",
    "ARIMONITOR_AMI_PASSWORD": "third-secret",
}


def show(tmp_path: Path, settings: str = "", *options: str) -> dict[str, dict[str, dict[str, str]]]:
    """Run the command; gives value by key by section by file."""
    config = tmp_path / "arimonitor.toml"
    config.write_text(f"[arimonitor]\n{settings}")
    result = CliRunner().invoke(main, ["asterisk-config", "--config", str(config), *options], env=SECRETS)
    assert result.exit_code == 0, result.stderr
    assert not any(secret in result.stdout for secret in SECRETS.values())
    files = {}
    for part in result.stdout.split("; === ")[1:]:
        name, _, text = part.partition(" ===\n")
        parsed = parse_conf(text.encode())
        assert parsed.problems == ()
        files[name] = {one.name: {setting.name: setting.value for setting in one.settings} for one in parsed.sections}
    return files


def test_the_defaults_are_for_one_machine(tmp_path: Path) -> None:
    """Everything on loopback, a user that may write, channelvars, and a manager user for nothing but commands."""
    assert show(tmp_path) == {
        "ari.conf": {
            "general": {
                "enabled": "yes",
                "channelvars": "CHANNEL(linkedid),MIXMONITOR_FILENAME,DIALEDPEERNUMBER,DIALEDPEERNAME",
            },
            "arimonitor": {"type": "user", "password": "<ARIMONITOR_ARI_PASSWORD>", "read_only": "no"},
        },
        "http.conf": {"general": {"enabled": "yes", "bindaddr": "127.0.0.1", "bindport": "8088"}},
        "manager.conf": {
            "general": {"enabled": "yes", "bindaddr": "127.0.0.1", "port": "5038"},
            "arimonitor": {
                "secret": "<ARIMONITOR_AMI_PASSWORD>",
                "deny": "0.0.0.0/0.0.0.0",
                "permit": "127.0.0.0/255.0.0.0",
                "displayconnects": "no",
                "read": "",
                "write": "command",
            },
        },
        "pjsip.conf": {"global": {"type": "global", "taskprocessor_overload_trigger": "pjsip_only"}},
    }


def test_names_and_addresses_are_those_of_the_settings(tmp_path: Path) -> None:
    """Whatever the daemon is told, Asterisk is told as well; where only an address will do, the hint says whose."""
    files = show(
        tmp_path,
        'ari.url = "http://[::1]:9088"\nari.user = "ear"\nami = {host = "pbx.example", port = 5039, user = "watch"}\n',
    )
    assert files["ari.conf"].keys() == {"general", "ear"}
    assert files["http.conf"]["general"]["bindaddr"] == "::1"
    assert files["http.conf"]["general"]["bindport"] == "9088"
    assert files["manager.conf"]["general"] == {
        "enabled": "yes",
        "bindaddr": "<ADDRESS OF pbx.example>",
        "port": "5039",
    }
    assert files["manager.conf"]["watch"]["permit"] == "<ADDRESS OF ARIMONITOR>"


def test_https_needs_a_certificate(tmp_path: Path) -> None:
    """Said as a placeholder, with the port of the address or the usual one."""
    general = show(tmp_path, 'ari.url = "https://localhost"\n')["http.conf"]["general"]
    assert general["tlsbindaddr"] == "127.0.0.1:443"
    assert general["tlscertfile"] == "<CERTIFICATE>"
    assert "bindport" not in general


@pytest.mark.parametrize(
    ("settings", "uri"),
    [
        ("", "ws://127.0.0.1:8765/ari"),
        ('ari = {listen_host = "::1", listen_port = 99, listen_path = "/x"}\n', "ws://[::1]:99/x"),
        ('ari.listen_host = "0.0.0.0"\n', "ws://<ADDRESS OF ARIMONITOR>:8765/ari"),
    ],
)
def test_an_asterisk_that_dials_us_is_told_where(tmp_path: Path, settings: str, uri: str) -> None:
    """Two sections that name each other, and our user and path."""
    files = show(tmp_path, settings, "--mode", "outbound")
    dialing = files["ari.conf"]["arimonitor-outbound"]
    client = files["websocket_client.conf"][dialing["websocket_client_id"]]
    assert dialing["local_ari_user"] in files["ari.conf"]
    assert (dialing["type"], dialing["apps"], dialing["subscribe_all"]) == ("outbound_websocket", "arimonitor", "yes")
    assert client == {
        "type": "websocket_client",
        "connection_type": "persistent",
        "uri": uri,
        "protocols": "ari",
        "username": "pbx",
        "password": "<ARIMONITOR_ARI_LISTEN_PASSWORD>",
    }


def test_the_mode_is_that_of_the_settings_unless_it_is_given(tmp_path: Path) -> None:
    """The option is for a look at the other mode."""
    assert "websocket_client.conf" in show(tmp_path, 'ari.mode = "outbound"\n')
    assert "websocket_client.conf" not in show(tmp_path, 'ari.mode = "outbound"\n', "--mode", "inbound")


def test_settings_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """File and field, as the daemon says it."""
    config = tmp_path / "arimonitor.toml"
    config.write_text("[arimonitor]\nari.listen_port = 70000\n")
    result = CliRunner().invoke(main, ["asterisk-config", "--config", str(config)])
    assert result.exit_code == 1
    assert "ari.listen_port" in result.stderr
