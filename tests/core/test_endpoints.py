"""Endpoints come and go, and register from addresses."""

from __future__ import annotations

import pytest

from tests.core.events import NOON_MS, Scene


def peer(scene: Scene, status: str, number: str = "1122", **more: str) -> None:
    scene.event("PeerStatusChange", endpoint=endpoint("unknown", number), peer={"peer_status": status, **more})


def contact(scene: Scene, status: str, uri: str, state: str = "online", number: str = "1122") -> None:
    info = {"uri": uri, "contact_status": status, "aor": number, "roundtrip_usec": "900"}
    scene.event("ContactStatusChange", endpoint=endpoint(state, number), contact_info=info)


def endpoint(state: str, number: str = "1122", technology: str = "PJSIP") -> dict[str, object]:
    return {"technology": technology, "resource": number, "state": state, "channel_ids": []}


def test_a_status_is_told_once_for_each_real_change() -> None:
    """The first sight of an endpoint is one."""
    scene = Scene()
    for status in ("Reachable", "Reachable", "Unreachable", "Unreachable", "Reachable"):
        peer(scene, status)
    assert [data["status"] for data in scene.said] == ["Reachable", "Unreachable", "Reachable"]
    message, body = scene.messages[0], scene.bodies[0]
    assert body["operation"] == {
        "type": "endpoint-status", "event_code": "8013", "timestamp": NOON_MS // 1000, "vhost": "vila-madalena",
    }  # fmt: skip
    assert (message.ordering_key, message.callnumber, message.vhost) == ("endpoint:1122", 0, "vila-madalena")


def test_address_and_cause_are_told_where_they_are_known() -> None:
    """The address is that of the last contact, or what the event itself says."""
    scene = Scene()
    contact(scene, "Reachable", "sip:1122@10.0.0.7:5060;transport=udp")
    peer(scene, "Reachable")
    peer(scene, "Unreachable", cause="Expired", address="10.0.0.8")
    assert [(data["address"], data["cause"]) for data in scene.said] == [("10.0.0.7", ""), ("10.0.0.8", "Expired")]


def test_contacts_tell_addresses_but_no_status() -> None:
    """The message waits for PeerStatusChange; a removed contact tells no address, an unreadable one neither."""
    scene = Scene()
    contact(scene, "NonQualified", "sip:1122@10.0.0.7:5060", state="unknown")
    contact(scene, "Removed", "sip:1122@10.0.0.9:5060", state="offline")
    contact(scene, "Reachable", "")
    scene.wait(60)
    contact(scene, "Reachable", "sip:1123@10.0.0.7:5060", number="1123")
    assert scene.messages == []
    book = scene.monitor.endpoint_book
    assert {address: seen.dateinserted for address, seen in book.addresses.items()} == {"10.0.0.7": NOON_MS // 1000}
    assert (book.states["1122"].address, book.states["1123"].address) == ("10.0.0.7", "10.0.0.7")
    assert book.addresses["10.0.0.7"].whitelist == "N"


@pytest.mark.parametrize(("state", "online"), [("online", True), ("offline", False), ("unknown", None)])
def test_a_contact_tells_whether_the_endpoint_can_be_called(state: str, online: bool | None) -> None:
    """Where it does not say, nobody knows."""
    scene = Scene()
    contact(scene, "Reachable", "sip:1122@10.0.0.7", state=state)
    assert scene.monitor.endpoint_book.is_online("1122") is online


@pytest.mark.parametrize("status", ["Reachable", "Registered", "Lagged", "Unreachable", "Rejected"])
def test_every_technologys_words_for_reachable_are_understood(status: str) -> None:
    """The message carries the word as it is."""
    scene = Scene()
    peer(scene, status)
    assert scene.monitor.endpoint_book.is_online("1122") is (status in {"Reachable", "Registered", "Lagged"})
    assert scene.said[0]["status"] == status


def test_other_technologies_and_reconnects_say_it_by_state() -> None:
    """In the words of PeerStatusChange; an unknown state is none, and an unheard-of endpoint is not known."""
    scene = Scene()
    scene.event("EndpointStateChange", endpoint=endpoint("online", technology="SIP"))
    scene.restored(endpoints={"1122": "offline", "1123": "unknown", "1124": "online"})
    assert [(data["endpoint"], data["status"]) for data in scene.said] == [
        ("1122", "Reachable"), ("1122", "Unreachable"), ("1124", "Reachable"),
    ]  # fmt: skip
    assert scene.monitor.endpoint_book.is_online("1123") is None
    assert scene.monitor.endpoint_book.is_online("nobody") is None
