"""What systemd is told, over a real datagram socket."""

import os
import socket

import pytest

from arimonitor_runner.systemd import (
    notify,
    notify_handed_over,
    notify_ready,
    notify_still_starting,
    notify_stopping,
)


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_systemd_is_told(kind, tmp_path, monkeypatch):
    """Starting still, ready with the process that serves, handed over, stopping; both ways to write an address."""
    name = str(tmp_path / "notify") if kind == "path" else f"arimonitor-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name if kind == "path" else "\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", name if kind == "path" else "@" + name)
        assert notify_still_starting()
        assert notify_ready()
        assert notify_handed_over(7)
        assert notify_stopping()
        assert receiver.recv(1000) == b"EXTEND_TIMEOUT_USEC=60000000"
        assert receiver.recv(1000) == f"READY=1\nMAINPID={os.getpid()}".encode()
        assert receiver.recv(1000) == b"MAINPID=7"
        assert receiver.recv(1000) == b"STOPPING=1"


@pytest.mark.parametrize("address", [None, "", "vsock:2:1234", "/nowhere/at/all"])
def test_without_systemd_nothing_happens(address, monkeypatch):
    """No address, one of a kind not known, one that nobody listens on."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify("READY=1")
