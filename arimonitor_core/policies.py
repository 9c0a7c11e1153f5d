"""What an operator may decide about the core's behaviour. Part of the configuration, never of the recorded inputs."""

from __future__ import annotations

from attrs import field, frozen, validators


@frozen(kw_only=True)
class Policies:
    """Settings of the call model; two runs agree byte for byte only with equal policies."""

    audio_base_url: str = "http://audio.example/voip1/"
    """What a recording's URL begins with."""
    push_types: frozenset[str] = frozenset({"unidade"})
    """Types of endpoints (smartphone apps) that a push message wakes."""
    push_wait_s: float = field(default=0.5, validator=validators.ge(0))
    """Seconds after which an endpoint of unknown state that nothing rings counts as offline."""
    forceclose_status: str = "FORCECLOSE"
    """`channelstatus` of a call that ended unseen; a consumer may prefer `closed`."""
    call_update: bool = False
    """Publish call-update messages (transferred, held, resumed)."""
    history_limit: int = field(default=10_000, validator=validators.ge(0))
    """How many ended calls are remembered."""
