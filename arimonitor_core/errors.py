"""Errors that the core raises.

They are misuse by our own code or unreadable documents given to it; bad data from Asterisk never raises out of
`Monitor.handle` but is counted and reported in a `Diagnostic`.

::

    ArimonitorError
     +-- RecordError          a line of a capture log or a journal that cannot be read
     +-- SnapshotError        a snapshot document of an unknown version or shape
     +-- StateDeclarationError  a call-state declaration that no flat table can represent
"""

from __future__ import annotations


class ArimonitorError(Exception):
    """Base of every error raised by this package."""


class RecordError(ArimonitorError):
    """A line of a capture log is not a record of format 1."""


class SnapshotError(ArimonitorError):
    """A snapshot cannot be read back; the caller sets it aside and replays the journal."""


class StateDeclarationError(ArimonitorError):
    """The declared machine uses something that the flat transition table cannot express."""
