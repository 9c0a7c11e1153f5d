"""Clients, endpoints, ring groups and AI entries: whose number is it, and what kind of number?

Where the entries come from (text files, MariaDB) is the runner's business; the core only asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from attrs import Factory, evolve, field, frozen

RING_GROUP_TYPE: Final = "ring-group"
AI_TYPE: Final = "ia"
CLIENT_CODE_LENGTH: Final = 3
"""A number that the directory does not hold belongs to the client whose code its first three digits are."""

DEFAULT_AI_ENTRIES: Final = frozenset({"94"})


@frozen(kw_only=True)
class Client:
    """One customer (cliente, revenda): a condominium or a reseller."""

    code: str
    """Three digits, such as 112."""
    name: str = ""
    vhost: str = ""
    """The RabbitMQ virtual host that its messages go to; empty: none is known."""
    mq_server: str = ""
    """Name of one of the directory's MQ servers; empty: the first."""
    ftp_wav: bool = False
    """FTPWAV: True converts recordings on the audio server, False here."""
    audio: tuple[str, ...] = ()
    """Names of the audio servers that may take its recordings; empty: all."""


@frozen(kw_only=True)
class Endpoint:
    """One extension (ramal)."""

    number: str
    type: str = ""
    """unidade, apto, portaria, ring-member or any other word of the directory."""
    client: str = ""
    """Code of its client; empty: decided by the number's prefix."""


@frozen(kw_only=True)
class RingGroup:
    """A number that rings several members."""

    number: str
    members: tuple[str, ...] = ()
    strategy: Literal["parallel", "sequential"] = "parallel"
    client: str = ""


@frozen(kw_only=True)
class MqServer:
    """One RabbitMQ server."""

    name: str
    url: str = field(repr=False)
    """AMQP URL without a virtual host; it may hold a password, so it is never shown."""


@frozen(kw_only=True)
class Directory:
    """All that is known about numbers. Immutable: a change makes a new one."""

    clients: Mapping[str, Client] = Factory(dict)
    """By code."""
    endpoints: Mapping[str, Endpoint] = Factory(dict)
    """By number."""
    ring_groups: Mapping[str, RingGroup] = Factory(dict)
    """By number."""
    ai_entries: frozenset[str] = DEFAULT_AI_ENTRIES
    mq_servers: Mapping[str, MqServer] = Factory(dict)
    """By name, in the order given."""

    @classmethod
    def of(
        cls,
        *,
        clients: Iterable[Client] = (),
        endpoints: Iterable[Endpoint] = (),
        ring_groups: Iterable[RingGroup] = (),
        ai_entries: Iterable[str] = DEFAULT_AI_ENTRIES,
        mq_servers: Iterable[MqServer] = (),
    ) -> Directory:
        """Build the indexes; of two entries with one key the later wins."""
        return cls(
            clients={client.code: client for client in clients},
            endpoints={endpoint.number: endpoint for endpoint in endpoints},
            ring_groups={group.number: group for group in ring_groups},
            ai_entries=frozenset(ai_entries),
            mq_servers={server.name: server for server in mq_servers},
        )

    def knows(self, number: str) -> bool:
        """Is the number one of this directory's own?"""
        return number in self.endpoints or number in self.ring_groups or number in self.ai_entries

    def type_of(self, number: str) -> str:
        """The directory's type of a number; empty for an unknown one."""
        if number in self.ring_groups:
            return RING_GROUP_TYPE
        if number in self.ai_entries:
            return AI_TYPE
        endpoint = self.endpoints.get(number)
        return endpoint.type if endpoint is not None else ""

    def find_client(self, number: str) -> Client | None:
        """The client that a number belongs to: as its entry says, else by prefix."""
        entry = self.endpoints.get(number) or self.ring_groups.get(number)
        if entry is not None and entry.client:
            return self.clients.get(entry.client)
        if number in self.ai_entries:
            return None
        return self.clients.get(number[:CLIENT_CODE_LENGTH])

    def vhost_of(self, number: str) -> str:
        """The vhost of a number's client; empty where it has none."""
        client = self.find_client(number)
        return client.vhost if client is not None else ""

    def with_endpoint(self, endpoint: Endpoint) -> Directory:
        """A directory that holds this endpoint as well."""
        return evolve(self, endpoints={**self.endpoints, endpoint.number: endpoint})

    def with_client(self, client: Client) -> Directory:
        """A directory that holds this client as well."""
        return evolve(self, clients={**self.clients, client.code: client})
