"""Whose number is it, and what kind of number?"""

from __future__ import annotations

from arimonitor_core.directory import Client, Directory, Endpoint, MqServer, RingGroup

DIRECTORY = Directory.of(
    clients=[Client(code="112", vhost="vila"), Client(code="113", vhost="paulista")],
    endpoints=[Endpoint(number="1121", type="unidade"), Endpoint(number="1139", type="apto", client="112")],
    ring_groups=[RingGroup(number="1120", members=("1121",)), RingGroup(number="1125", client="999")],
    mq_servers=[MqServer(name="mq1", url="amqp://user:secret@host")],
)


def test_a_numbers_type_is_the_directorys_word() -> None:
    """Groups, AI entries, endpoints; empty for the rest."""
    numbers = ("1120", "94", "1121", "1122", "")
    assert [DIRECTORY.type_of(number) for number in numbers] == ["ring-group", "ia", "unidade", "", ""]


def test_the_entry_decides_before_the_prefix() -> None:
    """An endpoint that was given to another client keeps its number."""
    assert DIRECTORY.vhost_of("1139") == "vila"
    assert DIRECTORY.vhost_of("1131") == "paulista"
    assert DIRECTORY.vhost_of("1120") == "vila"


def test_a_number_of_nobody_has_no_vhost() -> None:
    """Unknown prefixes, unknown clients of known entries, and AI entries, which belong to all."""
    assert [DIRECTORY.vhost_of(number) for number in ("9991", "1125", "94", "")] == ["", "", "", ""]
    assert DIRECTORY.find_client("94") is None


def test_known_numbers_are_those_with_an_entry() -> None:
    """A prefix makes a client, not an entry."""
    assert [DIRECTORY.knows(number) for number in ("1121", "1120", "94", "1122")] == [True, True, True, False]


def test_a_change_makes_a_new_directory() -> None:
    """The old one stays as it was."""
    changed = DIRECTORY.with_endpoint(Endpoint(number="1122", type="apto")).with_client(
        Client(code="114", vhost="lapa")
    )
    assert (changed.type_of("1122"), changed.vhost_of("1141")) == ("apto", "lapa")
    assert (DIRECTORY.type_of("1122"), DIRECTORY.vhost_of("1141")) == ("", "")


def test_a_servers_password_is_not_shown() -> None:
    """Directories are printed in logs."""
    assert "secret" not in repr(DIRECTORY)
