"""The directory from text files: what they mean, and what each fault in them costs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arimonitor_core.directory import Client, Directory, Endpoint, RingGroup
from arimonitor_runner.directory_sources.text import DirectoryFiles, LoadedDirectory, load_directory

FIXTURES = Path(__file__).parents[2] / "fixtures" / "directory"
MINIMAL = "[112]\nnome = Vila\nvhost = vila\n"
SECRET = "s3cr3t"


@pytest.fixture
def load(tmp_path: Path):
    """Write the three files and read them; the folder of each test is its own."""

    def write_and_load(
        clients: str = MINIMAL, endpoints: str = "", mq_servers: str | None = "", **environ: str
    ) -> LoadedDirectory:
        (tmp_path / "__CLIENTES__.DEF").write_text(clients)
        (tmp_path / "endpoints_pjsip.def").write_text(endpoints)
        if mq_servers is not None:
            (tmp_path / "mqservers.def").write_text(mq_servers)
        return load_directory(tmp_path, environ)

    return write_and_load


def complaints(loaded: LoadedDirectory) -> list[tuple[str, int, str, str]]:
    return [(Path(one.path).name, one.line, one.severity, one.text) for one in loaded.problems]


def test_the_providers_own_files_are_read_without_a_warning() -> None:
    """Three clients, their extensions, their groups, the AI and one RabbitMQ server."""
    loaded = load_directory(FIXTURES, {})
    assert loaded.is_usable
    assert loaded.problems == ()
    directory = loaded.directory
    assert directory.clients["112"] == Client(
        code="112", name="PV - Residencial Vila Madalena", vhost="vila-madalena", mq_server="mq1"
    )
    assert {code for code, client in directory.clients.items() if client.ftp_wav} == {"114"}
    assert directory.endpoints["1121"] == Endpoint(number="1121", type="unidade")
    assert directory.type_of("1120101") == "apto"
    assert directory.type_of("1142") == "portaria"
    assert directory.ring_groups["1120"] == RingGroup(
        number="1120", members=("1121", "1122", "1123"), strategy="parallel", client="112"
    )
    assert directory.ring_groups["1125"].strategy == "sequential"
    assert directory.ai_entries == {"94"}
    assert directory.vhost_of("1140101") == "alto-da-lapa"
    assert directory.mq_servers["mq1"].url == "amqp://guest:guest@127.0.0.1:5672"


def test_keys_are_read_in_any_case_and_the_last_one_counts(load) -> None:
    """As with settings that come from a template and are overridden."""
    loaded = load(
        "[base](!)\nvhost = none\nFTPWAV = yes\n[112](base)\nNome = A\nVHOST = a\n"
        "[113](base)\nvhost = b\nftpwav = Não\n"
    )
    assert loaded.directory.clients == {
        "112": Client(code="112", name="A", vhost="a", ftp_wav=True),
        "113": Client(code="113", vhost="b"),
    }
    assert loaded.problems == ()


@pytest.mark.parametrize(
    ("clients", "line", "severity", "text"),
    [
        ("[112]\nnome = x\n", 1, "warning", "client 112 has no vhost: none of its messages can be sent"),
        (MINIMAL + "telefone = 1\n", 4, "note", "client 112: unknown key telefone"),
        (MINIMAL + "ftpwav = maybe\n", 4, "error", "ftpwav: neither Y nor N: maybe; taken as N"),
        (MINIMAL + "mqserver = mq7\n", 4, "error", "client 112: no RabbitMQ server is called mq7"),
        (MINIMAL + "[112]\nvhost = b\n", 4, "warning", "client 112 stands here again; this one counts"),
        ("[geral]\nvhost = x\n", 1, "warning", "[geral] is neither a client's code of 3 digits nor [ia]; left out"),
        ("[1121]\nvhost = x\n", 1, "warning", "[1121] is neither a client's code of 3 digits nor [ia]; left out"),
        (MINIMAL + "ringgroup => 1120\n", 4, "warning", "ring group 1120 has no members"),
        (MINIMAL + "ringgroup =>\n", 4, "error", "client 112: a ring group begins with its number; left out"),
        (MINIMAL + "ringgroup => a&b, c\n", 4, "error", "client 112: a ring group begins with its number; left out"),
        (
            MINIMAL + "ringgroup => 1120, 1121&1122,1123\n",
            4,
            "warning",
            "ring group 1120 rings both ways, & and ,: taken as one after another",
        ),
        (
            MINIMAL + "ringgroup => 1120, 1\nringgroup => 1120, 2\n",
            5,
            "warning",
            "ring group 1120 stands here again; this one counts",
        ),
        (
            MINIMAL + "ringgroup => 1120, 1129\n",
            4,
            "note",
            "ring group 1120: member 1129 is neither an endpoint nor a group",
        ),
        (MINIMAL + "ringgroup => 1121, 1122\n", 4, "warning", "1121 is an endpoint too; it counts as a ring group"),
        ("[ia]\nentradas = 94, nine\n", 2, "error", "nine is no number; left out"),
        ("oops\n" + MINIMAL, 1, "error", "setting before the first section"),
    ],
)
def test_each_fault_among_the_clients_names_its_line(load, clients: str, line: int, severity: str, text: str) -> None:
    """With how bad it is: a note, a warning, or something that is not used."""
    loaded = load(clients, "[1121]\ntype=endpoint\nset_var=TIPO=apto\n[1122]\ntype=endpoint\nset_var=TIPO=apto\n")
    assert ("__CLIENTES__.DEF", line, severity, text) in complaints(loaded)


def test_a_bad_client_takes_no_good_one_down(load) -> None:
    """Nor does a bad key take the rest of its section."""
    loaded = load("[abc]\nvhost=x\n[112](gone)\nvhost=y\n[113]\nnonsense\nftpwav=?\nvhost=z\nringgroup=>1130,1131\n")
    assert loaded.directory.clients == {"113": Client(code="113", vhost="z")}
    assert loaded.directory.ring_groups == {"1130": RingGroup(number="1130", members=("1131",), client="113")}


def test_ring_groups_know_how_they_ring_and_whose_they_are(load) -> None:
    """At the same time, one after another, a single member, groups within groups; blanks do not matter."""
    loaded = load(
        MINIMAL + "ringgroup => 1120, 1121 & 1122&\nringgroup=>1125,1122 , 1121\nringgroup = 1126, 1120\n"
        "[x](!)\nringgroup => 9, 1\n[zzz]\nringgroup => 8, 1\n",
        "[1121]\ntype=endpoint\nset_var=TIPO=a\n[1122]\ntype=endpoint\nset_var=TIPO=a\n",
    )
    assert loaded.directory.ring_groups == {
        "1120": RingGroup(number="1120", members=("1121", "1122"), strategy="parallel", client="112"),
        "1125": RingGroup(number="1125", members=("1122", "1121"), strategy="sequential", client="112"),
        "1126": RingGroup(number="1126", members=("1120",), strategy="parallel", client="112"),
    }
    assert [one[3] for one in complaints(loaded)] == ["[zzz] is neither a client's code of 3 digits nor [ia]; left out"]


@pytest.mark.parametrize(
    ("section", "entries"),
    [
        ("", {"94"}),
        ("[ia]\n", {"94"}),
        ("[IA]\nentradas = 94, 95\nEntradas => *96\n", {"94", "95", "*96"}),
        ("[ia]\nentradas =\n", set()),
        ("[ia](!)\nentradas = 1\n", {"94"}),
    ],
)
def test_ai_entries_are_those_given_or_the_default(load, section: str, entries: set[str]) -> None:
    """An empty list is a list."""
    assert load(MINIMAL + section).directory.ai_entries == entries


def test_only_endpoints_are_endpoints(load) -> None:
    """Auth and aor of the same name, templates and other types are not; the type may come from a template."""
    loaded = load(
        endpoints="[global]\ntype=global\n[t](!)\ntype=endpoint\nset_var=TIPO=apto\n"
        "[1121](t)\nset_var = OTHER=1\nset_var = tipo = unidade\n[1121]\ntype=auth\n[1121]\ntype=aor\n"
        "[1122](t)\nSETVAR=__TIPO=portaria\n[1123](t)\n[1123](+)\ncallerid=x\n[1124]\ntype=aor\n[1125]\nset_var=TIPO=x\n"
    )
    assert loaded.problems == ()
    assert loaded.directory.endpoints == {
        "1121": Endpoint(number="1121", type="unidade"),
        "1122": Endpoint(number="1122", type="portaria"),
        "1123": Endpoint(number="1123", type="apto"),
    }


def test_a_trunk_is_not_taken_for_an_extension(load) -> None:
    """No number and no TIPO; with a TIPO a name is an extension, and a number is one without."""
    loaded = load(
        endpoints="[trunk-a]\ntype=endpoint\n[gate]\ntype=Endpoint\nset_var=TIPO=portaria\n[1121]\ntype=endpoint\n"
    )
    assert set(loaded.directory.endpoints) == {"gate", "1121"}
    assert complaints(loaded) == [
        ("endpoints_pjsip.def", 1, "note", "endpoint trunk-a has no number and no TIPO: a trunk"),
        ("endpoints_pjsip.def", 6, "warning", "endpoint 1121 has no TIPO"),
    ]


def test_an_endpoint_may_name_its_client(load) -> None:
    """By variable or account code, where that is a client's code and the number does not say it already."""
    head = "]\ntype=endpoint\nset_var=TIPO=x\n"
    loaded = load(
        endpoints=f"[77{head}set_var=CLIENTE=112\n[78{head}accountcode=112\n[1129{head}accountcode=112\n"
        f"[79{head}accountcode=whatever\n[80{head}set_var=cliente=999\naccountcode=112\n"
    )
    clients = {number: endpoint.client for number, endpoint in loaded.directory.endpoints.items()}
    assert clients == {"77": "112", "78": "112", "1129": "", "79": "", "80": "112"}
    assert loaded.directory.vhost_of("77") == "vila"
    assert [one[1:] for one in complaints(loaded)] == [(17, "error", "endpoint 80: there is no client 999")]


def test_an_endpoint_that_stands_twice_counts_as_written_last(load) -> None:
    """And is reported at its second place."""
    loaded = load(endpoints="[1]\ntype=endpoint\nset_var=TIPO=a\n[1]\ntype=endpoint\nset_var=TIPO=b\n")
    assert loaded.directory.type_of("1") == "b"
    assert complaints(loaded) == [
        ("endpoints_pjsip.def", 4, "warning", "endpoint 1 stands here again; this one counts")
    ]


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("amqp://guest:guest@127.0.0.1:5672", "amqp://guest:guest@127.0.0.1:5672"),
        ("amqps://rabbit.example", "amqps://rabbit.example"),
        ("amqp://a:${P}@${H}/", "amqp://a:p%40%2F%3A%25@10.0.0.5:5673"),
        ("${URL}", "amqp://a:p%40x@host:1?heartbeat=30"),
        ("amqp://a:b@host?heartbeat=10", "amqp://a:b@host?heartbeat=10"),
        ("amqp://a:x\\;y@host", "amqp://a:x;y@host"),
    ],
)
def test_a_servers_url_takes_values_from_the_environment(load, template: str, url: str) -> None:
    """A password as it is, whatever characters it holds; hosts and whole URLs as well."""
    environ = {"P": "p@/:%", "H": "10.0.0.5:5673", "URL": "amqp://a:p%40x@host:1?heartbeat=30"}
    loaded = load(mq_servers=f"[mq1]\nurl = {template}\n[mq2]\nurl=amqp://h2\n[t](!)\nurl=x\n", **environ)
    assert loaded.problems == ()
    assert [(name, server.name) for name, server in loaded.directory.mq_servers.items()] == [
        ("mq1", "mq1"),
        ("mq2", "mq2"),
    ]
    assert loaded.directory.mq_servers["mq1"].url == url


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("[mq1]\nnome = x\n", 1, "RabbitMQ server mq1 has no url; left out"),
        (
            "[mq1]\n\nurl = amqp://a:${NOWHERE}@${GONE}:${NOWHERE}\n",
            3,
            "RabbitMQ server mq1: not in the environment: ${GONE}, ${NOWHERE}; left out",
        ),
        *(
            (f"[mq1]\nurl = {url}\n", 2, "RabbitMQ server mq1: url is not amqp://user:password@host:port; left out")
            for url in (
                f"http://a:{SECRET}@host",
                f"amqp://a:{SECRET}@",
                f"amqp://a:{SECRET}@host:port",
                f"amqp://a:{SECRET}@host:0",
                f"amqp://a:{SECRET}@[::1",
                f"amqp://a:{SECRET}/x@host",
                f"{SECRET}",
                "${SECRET}",
                "amqp://a:b@host:${SECRET}",
            )
        ),
    ],
)
def test_a_server_that_cannot_be_used_is_left_out_and_its_password_never_shown(
    load, text: str, line: int, reason: str
) -> None:
    """The other server stays."""
    loaded = load(mq_servers=text + "[mq2]\nurl = amqp://ok\n", SECRET=SECRET)
    assert ("mqservers.def", line, "error", reason) in complaints(loaded)
    assert set(loaded.directory.mq_servers) == {"mq2"}
    assert SECRET not in repr(loaded)


def test_doubtful_servers_are_used_and_reported(load) -> None:
    """A virtual host in the URL is not: each client has its own."""
    loaded = load(mq_servers=f"[mq1]\nurl=amqp://a:{SECRET}@h/voip\n[mq1]\nurl=amqp://a:{SECRET}@h2\n")
    assert complaints(loaded) == [
        (
            "mqservers.def",
            2,
            "warning",
            "RabbitMQ server mq1: the virtual host in url is not used, each client has its own",
        ),
        ("mqservers.def", 3, "warning", "RabbitMQ server mq1 stands here again; this one counts"),
    ]
    assert loaded.directory.mq_servers["mq1"].url == f"amqp://a:{SECRET}@h2"
    assert SECRET not in repr(loaded)


def test_a_missing_server_file_is_only_a_note(load) -> None:
    """A replay needs none; what clients say of servers then has nothing to be compared with."""
    loaded = load(MINIMAL + "mqserver = mq1\n", mq_servers=None)
    assert complaints(loaded) == [("mqservers.def", 0, "note", "no such file: the directory names no RabbitMQ servers")]
    assert loaded.directory.clients["112"].mq_server == "mq1"


def test_one_missing_file_is_a_problem_and_the_other_is_used(tmp_path: Path) -> None:
    """Clients without endpoints still say where messages go."""
    (tmp_path / "__CLIENTES__.DEF").write_text(MINIMAL)
    loaded = load_directory(tmp_path, {})
    assert loaded.is_usable
    assert loaded.directory.vhost_of("1121") == "vila"
    assert ("endpoints_pjsip.def", 0, "error", "cannot be read: No such file or directory") in complaints(loaded)


def test_a_folder_without_either_is_no_directory(tmp_path: Path) -> None:
    """The caller decides what to do without one."""
    loaded = load_directory(tmp_path / "gone", {})
    assert not loaded.is_usable
    assert loaded.directory == Directory.of()
    assert [one[2] for one in complaints(loaded)] == ["note", "error", "error"]


def test_the_files_may_have_other_names(tmp_path: Path) -> None:
    """Absolute ones too."""
    (tmp_path / "c.def").write_text(MINIMAL)
    (tmp_path / "e.def").write_text("[1121]\ntype=endpoint\nset_var=TIPO=apto\n")
    (tmp_path / "m.def").write_text("[mq1]\nurl=amqp://h\n")
    names = DirectoryFiles(clients="c.def", endpoints=str(tmp_path / "e.def"), mq_servers="m.def")
    loaded = load_directory(tmp_path, {}, names)
    assert loaded.problems == ()
    assert (set(loaded.directory.clients), set(loaded.directory.endpoints)) == ({"112"}, {"1121"})


WORDS = st.text("abcdefghij-çã ", min_size=1, max_size=10).map(str.strip)
DIGITS = st.text("0123456789", min_size=3, max_size=3)
NUMBERS = st.text("0123456789", min_size=4, max_size=7)


@given(
    clients=st.lists(
        st.builds(Client, code=DIGITS, name=WORDS, vhost=WORDS.filter(bool), ftp_wav=st.booleans()),
        unique_by=lambda client: client.code,
        max_size=4,
    ),
    endpoints=st.lists(
        st.builds(Endpoint, number=NUMBERS, type=WORDS.filter(bool)),
        unique_by=lambda endpoint: endpoint.number,
        max_size=5,
    ),
    ai_entries=st.sets(NUMBERS, max_size=3),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_directory_written_as_text_is_read_back(load, clients, endpoints, ai_entries) -> None:
    """Clients, endpoints and AI entries of any names."""
    client_text = f"[ia]\nentradas = {', '.join(ai_entries)}\n"
    for client in clients:
        client_text += f"[{client.code}]\nnome = {client.name}\nvhost = {client.vhost}\n"
        client_text += f"ftpwav = {'Y' if client.ftp_wav else 'N'}\n"
    endpoint_text = ""
    for endpoint in endpoints:
        endpoint_text += f"[{endpoint.number}]\ntype=endpoint\nset_var=TIPO={endpoint.type}\n"
    loaded = load(client_text, endpoint_text)
    assert loaded.problems == ()
    assert loaded.directory == Directory.of(clients=clients, endpoints=endpoints, ai_entries=ai_entries)


@given(text=st.text("[]()!,=&;\n 0129aymTIPO_nevdhosturl$@:/{}", max_size=150))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_in_any_file_is_read_without_raising(load, text: str) -> None:
    """What it means is another question."""
    load(text, text, text)
    load("[112]\n" + text, "[1121]\ntype=endpoint\nset_var=" + text, "[m]\nurl=" + text)
