"""Which endpoints can be reached, and from which addresses they register."""

from __future__ import annotations

from typing import Final

from arimonitor_core.ari_events import ContactStatusChange, EndpointSnapshot, PeerStatusChange
from arimonitor_core.calls import CallBook
from arimonitor_core.endpoint import Address, EndpointState
from arimonitor_core.values import host_of_uri

REACHABLE: Final = "Reachable"
UNREACHABLE: Final = "Unreachable"
ONLINE_STATUSES: Final = frozenset({REACHABLE, "Registered", "Lagged"})
"""Asterisk's words (PJSIP, SIP, IAX2) for an endpoint that can be called."""
STATUS_OF_STATE: Final = {"online": REACHABLE, "offline": UNREACHABLE}
"""What GET /endpoints and EndpointStateChange say, in the words of PeerStatusChange."""


class EndpointBook:
    """States by endpoint, addresses by IP."""

    def __init__(self, book: CallBook) -> None:
        self._book = book
        self.states: dict[str, EndpointState] = {}
        self.addresses: dict[str, Address] = {}

    def is_online(self, endpoint: str) -> bool | None:
        """Can the endpoint be called? None: not known."""
        state = self.states.get(endpoint)
        return state.online if state is not None else None

    def on_peer_status(self, event: PeerStatusChange, at_ms: int) -> None:
        """An endpoint became reachable or unreachable."""
        status = event.peer.peer_status
        state = self._state(event.endpoint.resource)
        state.online = status in ONLINE_STATUSES
        if event.peer.address:
            self._note_address(state, event.peer.address, at_ms)
        self._tell(event.endpoint.resource, state, status, event.peer.cause, at_ms)

    def on_contact_status(self, event: ContactStatusChange, at_ms: int) -> None:
        """It tells the address, and the state that a push depends on; the message waits for PeerStatusChange."""
        state = self._state(event.endpoint.resource)
        if event.endpoint.state in STATUS_OF_STATE:
            state.online = event.endpoint.state == "online"
        if event.contact_info.contact_status != "Removed":
            self._note_address(state, host_of_uri(event.contact_info.uri), at_ms)

    def on_snapshot(self, endpoint: EndpointSnapshot, at_ms: int) -> None:
        """What Asterisk shows at a reconnect, or a technology says that sends no PeerStatusChange."""
        status = STATUS_OF_STATE.get(endpoint.state)
        if status is not None:
            state = self._state(endpoint.resource)
            state.online = status == REACHABLE
            self._tell(endpoint.resource, state, status, "", at_ms)

    def _state(self, endpoint: str) -> EndpointState:
        state = self.states.get(endpoint)
        if state is None:
            state = self.states[endpoint] = EndpointState()
        return state

    def _tell(self, endpoint: str, state: EndpointState, status: str, cause: str, at_ms: int) -> None:
        if state.status != status:
            state.status = status
            self._book.publish(self._book.writer.endpoint_status(endpoint, status, state.address, cause, at_ms))

    def _note_address(self, state: EndpointState, address: str, at_ms: int) -> None:
        if address:
            state.address = address
            if address not in self.addresses:
                self.addresses[address] = Address(dateinserted=at_ms // 1000)
