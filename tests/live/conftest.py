"""Real Asterisks of both versions, each started once a session, and a real RabbitMQ."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from attrs import define, field

from tests.live.evening import Evening, Way, spend
from tests.live.kills import Fault
from tests.live.lab import FIXTURES, Pair, load
from tests.live.trials import Evidence, try_out
from tests.runner.rabbit import RabbitNode, session_node

VERSIONS = (22, 16)
CLIENT_VHOSTS = ("vila-madalena", "jardim-paulista", "alto-da-lapa")


def on(version: int, *values: object) -> object:
    """A parameter set whose tests stay on one worker: a version's lab runs once."""
    return pytest.param(*(values or (version,)), marks=pytest.mark.xdist_group(f"asterisk-{version}"), id=str(version))


PAIRS = [
    pytest.param((version, way), marks=pytest.mark.xdist_group(f"asterisk-{version}"), id=f"{version}-{way}")
    for version in VERSIONS
    for way in ("channelvars", "plain")
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these are live tests."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.live)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse a run in which tests of one lab may go to several workers: each would play all calls again."""
    if session.config.getoption("loadgroup", default=False):
        apart = [item for item in session.items if item.get_closest_marker("xdist_group") and "@" not in item.nodeid]
        if apart:
            raise pytest.UsageError(f"pytest-xdist keeps no groups together with this pytest: {apart[0].nodeid}")


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """The session's RabbitMQ node, the same that the runner's tests use."""
    with session_node(tmp_path_factory) as node:
        yield node


@define
class Site:
    """A running pair, a directory for it, and the evenings and trials spent there."""

    pair: Pair
    rabbit: RabbitNode
    folder: Path
    vhosts: list[str]
    _evenings: dict[tuple[str, Way], Evening] = field(factory=dict)
    _trials: dict[str, Evidence] = field(factory=dict)

    @property
    def directory(self) -> Path:
        """The folder with the directory's files."""
        return self.folder / "directory"

    def evening(self, name: str, way: Way = "network") -> Evening:
        """The evidence of a scenario, which is played the first time that somebody asks."""
        if (name, way) not in self._evenings:
            folder = self.folder / f"{name}-{way}"
            spending = spend(self.pair, self.rabbit, self.directory, self.vhosts, name, folder, way)
            self._evenings[name, way] = asyncio.run(spending)
        return self._evenings[name, way]

    def trial(self, name: str, fault: Fault, count: int) -> Evidence:
        """The evidence of a fault that struck so many times, which happens the first time that somebody asks."""
        if name not in self._trials:
            trying = try_out(
                self.pair, self.rabbit, self.directory, self.vhosts, self.folder / name,
                name=name, strike=fault.strike, count=count, seed=count, through_proxy=fault.through_proxy,
            )  # fmt: skip
            self._trials[name] = asyncio.run(trying)
        return self._trials[name]


@pytest.fixture(scope="session", params=PAIRS)
def site(
    request: pytest.FixtureRequest, rabbit: RabbitNode, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A pair with or without channelvars in its ari.conf."""
    version, way = request.param
    folder = tmp_path_factory.mktemp(f"asterisk-{version}-{way}")
    pair = Pair(version, folder, with_channelvars=way == "channelvars")
    try:
        pair.start()
        yield Site(pair, rabbit, folder, make_directory(folder / "directory", rabbit))
    finally:
        pair.stop()


@pytest.fixture
def judge(site: Site) -> ModuleType:
    """The lab's judge, which compares messages with CEL, CDR and the scenario's script; with this site's directory."""
    loaded = load("judge")
    types, vhosts = loaded.read_directory(site.directory)
    loaded.TYPES.clear()
    loaded.VHOSTS.clear()
    loaded.TYPES.update(types)
    loaded.VHOSTS.update(vhosts)
    return loaded


def make_directory(folder: Path, rabbit: RabbitNode) -> list[str]:
    """Copy the directory for this node, each client with a vhost of its own; gives their names."""
    folder.mkdir()
    for path in (FIXTURES / "directory").iterdir():
        (folder / path.name).write_text(path.read_text())
    clients = (folder / "__CLIENTES__.DEF").read_text()
    vhosts = []
    for name in CLIENT_VHOSTS:
        vhost = rabbit.new_vhost()
        rabbit.declare(vhost)
        clients = clients.replace(f"vhost = {name}\n", f"vhost = {vhost}\n")
        vhosts.append(vhost)
    (folder / "__CLIENTES__.DEF").write_text(clients)
    (folder / "mqservers.def").write_text(f"[mq1]\nurl = {rabbit.url}\n")
    return vhosts


@pytest.fixture
def run() -> Callable[..., object]:
    """Run a coroutine, at most two minutes."""

    def runner(coroutine):
        return asyncio.run(asyncio.wait_for(coroutine, 120))

    return runner
