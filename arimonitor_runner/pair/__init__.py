"""A warm pair: two daemons follow one Asterisk, and one of them at a time publishes.

Each has its own ARI application and its own state folder, and decides everything itself; equal inputs give equal guids
and message_ids. They meet in a vhost of RabbitMQ, where a queue with a single active consumer says who leads (`link`).
The leader delivers and announces what the other one must know to go on from there: which number a call has, before it
is used, and what is delivered (`reign`). The other one keeps its outbox up to date by that (`ledger`), so that it holds
just what is still to be published when it takes over (`listener` hears). `member` joins these.

In the daemon `PairedSink` stands in the place of the `Broker`, which it makes itself for each leadership. It must
be started after the outbox is open and before the outbox takes messages that were decided after the last stop (a replay
of the journal), since it is the ledger that keeps out what the other member has delivered meanwhile.
"""

from __future__ import annotations

from arimonitor_runner.pair.member import PairedSink

__all__ = ["PairedSink"]
