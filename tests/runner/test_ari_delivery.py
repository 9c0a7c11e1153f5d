"""Messages in the turn of the event loop that read them, over a real websocket of the library's own server."""

import asyncio

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from arimonitor_runner.ari.delivery import FRAGMENTS_MAX, DirectClient, DirectServer
from tests.runner.waiting import until


async def _meet(say):
    """A connection to a server that says something; and what was handed over by its end."""
    async with serve(say, "127.0.0.1", 0, compression=None, create_connection=DirectServer) as server:
        port = server.sockets[0].getsockname()[1]
        websocket = await connect(f"ws://127.0.0.1:{port}", compression=None, create_connection=DirectClient)
        taken = []
        websocket.hand_over(taken.append)
        await websocket.wait_closed()
        return taken


def test_every_message_is_handed_over_in_order(run):
    """Text and bytes, empty and long, whole and in pieces, with pings in between."""

    async def say(websocket):
        await websocket.send("one")
        await websocket.send(["t", "w", "", "o"])
        await websocket.ping()
        await websocket.send(b"three")
        await websocket.send("")
        await websocket.send("x" * 200_000)

    assert run(_meet(say)) == [b"one", b"two", b"three", b"", b"x" * 200_000]


def test_what_came_before_anybody_asked_is_kept(run):
    """And whoever asks next gets what comes next."""

    async def scenario():
        said, more = asyncio.Event(), asyncio.Event()

        async def say(websocket):
            await websocket.send("early")
            await websocket.send("too")
            said.set()
            await more.wait()
            await websocket.send("late")

        async with serve(say, "127.0.0.1", 0, create_connection=DirectServer) as server:
            port = server.sockets[0].getsockname()[1]
            websocket = await connect(f"ws://127.0.0.1:{port}", create_connection=DirectClient)
            await said.wait()
            await until(lambda: len(websocket._early) == 2)
            first, second = [], []
            websocket.hand_over(first.append)
            websocket.hand_over(second.append)
            more.set()
            await websocket.wait_closed()
            return first, second

    assert run(scenario()) == ([b"early", b"too"], [b"late"])


def test_a_message_in_endless_pieces_ends_the_connection(run):
    """Its size may be nothing: the number of pieces is bounded."""

    async def say(websocket):
        await websocket.send("whole")
        await websocket.send([""] * (FRAGMENTS_MAX + 10))

    assert run(_meet(say)) == [b"whole"]


def test_a_dialed_connection_hands_over_as_well(run):
    """The server's side is the same."""

    async def scenario():
        taken = asyncio.Queue()

        async def listen(websocket):
            websocket.hand_over(taken.put_nowait)
            await websocket.wait_closed()

        async with serve(listen, "127.0.0.1", 0, create_connection=DirectServer) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}") as websocket:
                await websocket.send("hello")
                return await taken.get()

    assert run(scenario()) == b"hello"
