"""What can go wrong between us and Asterisk.

::

    AriError               an attempt failed, or a connection was lost; trying again is right
     +-- AriRefused        credentials or rights: only an operator can mend it
     +-- AriStuck          Asterisk answers REST but no websocket handshake: it is probably deadlocked
     +-- AriTimeout        no answer in time
     +-- AriNotFound       404: what was asked for does not exist
    ApplicationReplaced    another process owns our application name now; we must not come back
"""

from __future__ import annotations


class AriError(Exception):
    """An attempt failed or a connection was lost; the text says why and holds no secret."""


class AriRefused(AriError):  # noqa: N818  # named as a fault, like the tree's other members
    """Asterisk knows us not, or we may not do what we must."""


class AriStuck(AriError):  # noqa: N818
    """ARI's event system does not answer any more while the rest of Asterisk does."""


class AriTimeout(AriError):  # noqa: N818
    """A request was not answered in time."""


class AriNotFound(AriError):  # noqa: N818
    """There is no such channel, variable or application."""

    def __init__(self, said: str, message: str) -> None:
        super().__init__(said)
        self.message = message
        """What Asterisk calls it."""


class ApplicationReplaced(Exception):  # noqa: N818  # Asterisk's own name for it
    """A second connection with our application name took over."""
