"""Tell systemd what this process is up to (sd_notify(3)); without systemd, nothing happens."""

from __future__ import annotations

import os
import socket

STARTING_S = 60


def notify(*assignments: str) -> bool:
    """Send assignments such as READY=1. True: somebody was there to be told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagram:
        try:
            # An abstract address begins with a zero byte, which the environment cannot hold.
            datagram.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
            datagram.sendall("\n".join(assignments).encode())
        except OSError:
            return False
    return True


def notify_ready() -> bool:
    """Our process serves now, and is the service's main process from here on."""
    return notify("READY=1", f"MAINPID={os.getpid()}")


def notify_handed_over(pid: int) -> bool:
    """Another process of this service is its main one from here on: our end is not the service's."""
    return notify(f"MAINPID={pid}")


def notify_still_starting() -> bool:
    """The start takes longer, and not for ever: we say so again within `STARTING_S`. Else systemd would end it."""
    return notify(f"EXTEND_TIMEOUT_USEC={STARTING_S * 1_000_000}")


def notify_stopping() -> bool:
    """The service ends now, and systemd ends whatever is left of it."""
    return notify("STOPPING=1")
