# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses, and who is allowed to be there."""

import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import ForwardError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import address, sockets
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.address import Address
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.tls import Tls, tls_context

MODEST = settings(max_examples=50, deadline=None)
US = str(os.geteuid())
# Listens as the user whose uid is given, and then tells how many bytes it got.
IMPOSTOR = """
import os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
listener = socket.socket(socket.AF_UNIX)
listener.bind(os.fsencode(sys.argv[1]) if sys.argv[1][0] == "/" else b"\\0" + sys.argv[1].encode().ljust(107, b"\\0"))
listener.listen(1)
print("listening", flush=True)
got, connection = 0, listener.accept()[0]
while True:
    data = connection.recv(4096)
    if not data:
        break
    got += len(data)
print(got)
"""


def need(condition, what):
    if not condition:
        if os.environ.get("CI"):
            pytest.fail("this test needs " + what)
        pytest.skip("this test needs " + what)


def abstract():
    return Address("abstract", "ct-test-" + uuid.uuid4().hex)


def bound(name):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(name)
    listener.listen(5)
    return listener


def refusal(where, **options):
    with pytest.raises(ForwardError) as caught:
        sockets.connect(where, options.pop("deadline", 5), **options).close()
    text = str(caught.value)
    assert "\n" not in text and text.startswith(str(where))
    return text


# --- what is written


@pytest.mark.parametrize(
    "text, parsed",
    [
        ("@CAgentStream_config_default_fluent.socket", ("abstract", "CAgentStream_config_default_fluent.socket", 0)),
        ("/run/azuremonitoragent/default_fluent.socket", ("file", "/run/azuremonitoragent/default_fluent.socket", 0)),
        ("tcp://localhost:24224", ("tcp", "localhost", 24224)),
        ("tls://logs.example.org:24284", ("tls", "logs.example.org", 24284)),
        ("tcp://[::1]:1", ("tcp", "::1", 1)),
    ],
)  # fmt: skip
def test_an_address_is_read_and_written_back(text, parsed):
    assert address.parse(text) == parsed
    assert str(address.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "@", "name", "run/socket", "tcp://", "tcp://host", "tcp://:1", "tcp://host:", "tcp://host:0", "tcp://host:65536",
     "tcp://::1:24224", "tcp://host:1e3", "udp://host:1", "@a\0b", "/a\0b", "@" + "n" * 108, "/" + "n" * 107, "tcp://[]:1"],
)  # fmt: skip
def test_what_is_no_address_is_refused_in_one_sentence_that_quotes_it(text):
    with pytest.raises(ForwardError) as caught:
        address.parse(text)
    assert repr(text) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["tls://user:secret@host", "tcp://me:secret@host:x:1", "https://host/id?sig=secret"])
def test_what_is_no_address_shows_no_password_and_no_signature(text):
    with pytest.raises(ForwardError) as caught:
        address.parse(text)
    assert "secret" not in str(caught.value) and "host" in str(caught.value)


@MODEST
@given(st.text() | st.builds("{0}{1}".format, st.sampled_from(["@", "/", "tcp://", "tls://", "tcp://["]), st.text()))
def test_any_text_is_an_address_or_refused(text):
    try:
        address.parse(text)
    except ForwardError:
        pass


# --- abstract names


def test_a_name_padded_to_all_of_sun_path_is_found_as_ama_binds_it():
    where = abstract()
    with bound(b"\0" + where.name.encode().ljust(107, b"\0")), sockets.connect(where, 5, [US]) as sock:
        assert len(sock.getpeername()) == 108


def test_a_name_without_padding_is_found_too():
    where = abstract()
    with bound(b"\0" + where.name.encode()), sockets.connect(where, 5, [US]) as sock:
        assert sock.getpeername() == b"\0" + where.name.encode()


def test_of_both_names_the_padded_one_is_taken():
    where = abstract()
    with sockets.listen(where), bound(b"\0" + where.name.encode()), sockets.connect(where, 5, [US]) as sock:
        assert len(sock.getpeername()) == 108


def test_a_name_of_full_length_needs_no_padding():
    where = Address("abstract", uuid.uuid4().hex.ljust(107, "n"))
    with sockets.listen(where), sockets.connect(where, 5, [US]):
        pass


def test_two_cannot_listen_on_one_name():
    where = abstract()
    with sockets.listen(where), pytest.raises(ForwardError) as caught:
        sockets.listen(where)
    assert "another process listens there" in str(caught.value)


# --- nobody there, or the wrong one


@pytest.mark.parametrize(
    "where", [Address("abstract", "ct-test-nobody-is-here"), Address("file", "/nonexistent/fluent.socket")]
)
def test_without_a_socket_the_user_hears_that_ama_opens_it_for_a_dcr_which_names_the_extension(where):
    text = refusal(where)
    assert "only after it has loaded a DCR that names the extension" in text and "azuremonitoragent" in text


@pytest.mark.parametrize(
    ("installed", "named"),
    [(["ama"], ["ama"]), (["relay"], ["relay"]), (["ama", "relay"], ["ama", "relay"]), ([], ["ama", "relay"])],
)
def test_without_a_socket_the_remedy_names_what_is_installed_here_or_both(tmp_path, monkeypatch, installed, named):
    for name, constant in (("ama", "AMA_FOLDER"), ("relay", "RELAY_UNIT")):
        monkeypatch.setattr(sockets, constant, str(tmp_path / name))
        if name in installed:
            (tmp_path / name).mkdir()
    text = refusal(Address("abstract", "ct-test-nobody-is-here"))
    assert ("azuremonitoragent" in text, "systemctl start ctrelay" in text) == ("ama" in named, "relay" in named)


@pytest.mark.parametrize("name", ["config", "ChangeTracking-Linux"])
def test_without_a_socket_in_the_relays_own_folder_the_remedy_is_to_start_it(tmp_path, name):
    text = refusal(Address("file", "%s/%s.socket" % (tmp_path, name)))
    assert "start the relay" in text and "--sockets %s)" % tmp_path in text and "azuremonitoragent" not in text


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_without_a_receiver_on_the_network_the_remedy_names_the_relay_and_not_ama(scheme):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        text = refusal(Address(scheme, "127.0.0.1", unused.getsockname()[1]), allowed_users=[])
    assert "ctrelay" in text and "relay_listen" in text and "firewall" in text and "azuremonitoragent" not in text


def test_a_socket_file_left_behind_is_nobody_there(tmp_path):
    where = Address("file", str(tmp_path / "s"))
    bound(where.name).close()
    assert "DCR" in refusal(where, allowed_users=[US])


@pytest.mark.parametrize("scheme", ["abstract", "file"])
def test_a_process_of_another_user_gets_not_one_byte(scheme):
    need(os.geteuid() == 0, "root, to start a process of another user")
    folder = "/tmp/ct-test-" + uuid.uuid4().hex  # pytest's own folders are closed to other users
    os.mkdir(folder, 0o755)
    os.chown(folder, 65534, 65534)
    where = abstract() if scheme == "abstract" else Address("file", folder + "/s")
    impostor = subprocess.Popen([sys.executable, "-c", IMPOSTOR, where.name, "65534"], stdout=subprocess.PIPE)
    try:
        assert impostor.stdout.readline() == b"listening\n"
        text = refusal(where, allowed_users=["root", "syslog", "no-such-user"])
        assert "process {0} of user nobody listens there".format(impostor.pid) in text
        assert "only root, syslog, no-such-user may" in text
        assert impostor.communicate()[0] == b"0\n"
    finally:
        impostor.kill()
        impostor.wait()
        shutil.rmtree(folder)


@pytest.mark.parametrize("user", ["nobody", "65534"])
def test_a_process_of_an_allowed_user_is_taken(user):
    need(os.geteuid() == 0, "root, to start a process of another user")
    where = abstract()
    receiver = subprocess.Popen([sys.executable, "-c", IMPOSTOR, where.name, "65534"], stdout=subprocess.PIPE)
    try:
        assert receiver.stdout.readline() == b"listening\n"
        with sockets.connect(where, 5, ["root", user]) as sock:
            assert sockets.peer(sock) == (receiver.pid, 65534)
            sock.sendall(b"four")
        assert receiver.communicate()[0] == b"4\n"
    finally:
        receiver.kill()
        receiver.wait()


def test_we_ourselves_are_not_implied():
    where = abstract()
    with sockets.listen(where):
        assert "only nobody may" in refusal(where, allowed_users=[])
        assert "only syslog may" in refusal(where, allowed_users=["syslog"])


def test_a_receiver_which_does_not_accept_is_given_up_in_time():
    where = abstract()
    waiting = []
    with sockets.listen(where, backlog=0):
        with pytest.raises(ForwardError) as caught:
            for _unused in range(100):
                waiting.append(sockets.connect(where, 0.2, [US]))
        for sock in waiting:
            sock.close()
    assert "no connection within 0.2 s" in str(caught.value) and waiting


# --- socket files


@pytest.mark.parametrize("mode", [0o600, 0o660])
def test_a_socket_file_has_the_mode_asked_for_whatever_the_umask(tmp_path, mode):
    where = Address("file", str(tmp_path / "s"))
    old = os.umask(0o077)
    try:
        with sockets.listen(where, mode=mode), sockets.connect(where, 5, [US]):
            assert stat.S_IMODE(os.stat(where.name).st_mode) == mode
    finally:
        os.umask(old)


def test_a_socket_file_of_a_dead_process_is_replaced(tmp_path):
    where = Address("file", str(tmp_path / "s"))
    bound(where.name).close()
    with sockets.listen(where), sockets.connect(where, 5, [US]):
        pass


def test_a_socket_file_in_use_is_not_taken_away(tmp_path):
    where = Address("file", str(tmp_path / "s"))
    with sockets.listen(where):
        with pytest.raises(ForwardError) as caught:
            sockets.listen(where)
        sockets.connect(where, 5, [US]).close()
    assert "another process listens there" in str(caught.value)


def test_of_many_that_start_at_once_one_gets_the_stale_socket_file(tmp_path):
    where = Address("file", str(tmp_path / "s"))
    bound(where.name).close()
    together, won, lost = threading.Barrier(8), [], []

    def start():
        together.wait()
        try:
            won.append(sockets.listen(where))
        except ForwardError as error:
            lost.append(error)

    threads = [threading.Thread(target=start) for _unused in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sockets.connect(where, 5, [US]).close()
    for listener in won:
        listener.close()
    assert (len(won), len(lost)) == (1, 7)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ForwardError) as caught:
        sockets.listen(Address("file", str(path)))
    assert "not a socket" in str(caught.value)
    assert path.read_text() == "data"


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(ForwardError) as caught:
        sockets.listen(Address("file", "/nonexistent/s"))
    assert str(caught.value) == "cannot listen on /nonexistent/s: No such file or directory"


# --- TCP and TLS


@pytest.fixture
def tcp():
    with sockets.listen(Address("tcp", "127.0.0.1", 0)) as listener:
        yield listener, listener.getsockname()[1]


def test_a_tcp_receiver_is_reached_whoever_runs_it(tcp):
    with sockets.connect(Address("tcp", "localhost", tcp[1]), 5, []) as sock:
        assert sock.getpeername() == ("127.0.0.1", tcp[1])


def test_nobody_at_a_tcp_port_is_one_sentence(tcp):
    tcp[0].close()
    assert "Connection refused" in refusal(Address("tcp", "127.0.0.1", tcp[1]))


def test_a_host_without_address_is_one_sentence():
    assert "no connection" in refusal(Address("tcp", "host.invalid", 24224))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    need(shutil.which("openssl"), "openssl")
    folder = tmp_path_factory.mktemp("tls")
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key -out cert"
    make += " -addext subjectAltName=DNS:localhost"
    subprocess.check_output(make.split(), cwd=str(folder), stderr=subprocess.STDOUT)
    lock = "openssl rsa -aes128 -passout pass:x -in key -out locked"
    subprocess.check_output(lock.split(), cwd=str(folder), stderr=subprocess.STDOUT)
    return folder


@pytest.fixture
def tls(certificate, tcp):
    """(Tls options that trust the server, port, what the server read from each client)"""
    listener, port = tcp
    context = tls_context(Tls(cert=str(certificate / "cert"), key=str(certificate / "key")), server=True)
    got = []

    def serve():
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as sock:
                    got.append(sock.recv(100))
                    sock.sendall(b"answer")
            except OSError as error:
                got.append(type(error))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield Tls(ca=str(certificate / "cert")), port, got
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_tls_receiver_with_a_trusted_certificate_is_reached(tls):
    with sockets.connect(Address("tls", "localhost", tls[1]), 5, [], tls[0]) as sock:
        sock.sendall(b"question")
        assert sock.recv(100) == b"answer"
    assert tls[2] == [b"question"]


def test_a_tls_receiver_with_an_unknown_certificate_gets_no_data(tls):
    assert "check the certificates" in refusal(Address("tls", "localhost", tls[1]), tls=Tls())


def test_a_tls_receiver_of_another_name_gets_no_data(tls):
    assert "check the certificates" in refusal(Address("tls", "127.0.0.1", tls[1]), tls=tls[0])


def test_an_unknown_certificate_is_taken_where_the_user_asks_for_it(tls):
    with sockets.connect(Address("tls", "127.0.0.1", tls[1]), 5, [], Tls(verify=False)) as sock:
        sock.sendall(b"question")
        assert sock.recv(100) == b"answer"


def test_a_receiver_without_tls_that_says_nothing_is_given_up_in_time(tcp):
    assert "no connection within 0.2 s" in refusal(Address("tls", "localhost", tcp[1]), deadline=0.2)


def test_a_server_with_an_authority_takes_only_clients_it_signed(certificate, tcp):
    files = Tls(str(certificate / "cert"), str(certificate / "cert"), str(certificate / "key"))
    context = tls_context(files, server=True)
    results = []

    def serve():
        for _unused in range(2):
            try:
                with context.wrap_socket(tcp[0].accept()[0], server_side=True) as sock:
                    results.append(sock.recv(100))
            except OSError:
                results.append("refused")

    thread = threading.Thread(target=serve)
    thread.start()
    where = Address("tls", "localhost", tcp[1])
    with sockets.connect(where, 5, [], files) as sock:
        sock.sendall(b"signed")
    try:  # TLS 1.3: a client hears of its refusal when it reads
        with sockets.connect(where, 5, [], Tls(ca=files.ca)) as sock:
            sock.recv(1)
    except (OSError, ForwardError):
        pass
    thread.join()
    assert results == [b"signed", "refused"]


@pytest.fixture
def two_authorities(certificate, tmp_path, monkeypatch):
    """`certificate` is what the system trusts; another one, in the file returned, is what the user names."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert"))
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=other -keyout otherkey -out other"
    subprocess.check_output(make.split(), cwd=str(tmp_path), stderr=subprocess.STDOUT)
    return str(tmp_path / "other")


def test_an_authority_that_is_given_replaces_those_of_the_system(tls, two_authorities):
    where = Address("tls", "localhost", tls[1])
    with sockets.connect(where, 5, [], Tls()) as sock:
        sock.sendall(b"trusted by the system")
        assert sock.recv(100) == b"answer"
    assert "check the certificates" in refusal(where, tls=Tls(ca=two_authorities))
    assert tls[2][0] == b"trusted by the system" and b"" not in tls[2]


@pytest.mark.parametrize("server", [False, True])
def test_a_context_trusts_the_given_authority_alone_and_speaks_no_old_tls(certificate, two_authorities, server):
    context = tls_context(Tls(ca=two_authorities), server=server)
    assert [dict(pair[0] for pair in found["subject"]) for found in context.get_ca_certs()] == [{"commonName": "other"}]
    assert context.verify_mode.name == "CERT_REQUIRED" and context.check_hostname is not server
    if hasattr(context, "minimum_version"):
        assert context.minimum_version.name == "TLSv1_2"
    else:
        assert {"OP_NO_TLSv1", "OP_NO_TLSv1_1", "OP_NO_SSLv3"} <= {
            flag.name for flag in type(context.options) if flag in context.options
        }


@pytest.mark.parametrize("name", ["missing", "locked"])
def test_an_unusable_key_is_named_and_never_prompted_for(certificate, name):
    with pytest.raises(ForwardError) as caught:
        tls_context(Tls(cert=str(certificate / "cert"), key=str(certificate / name)))
    assert "readable PEM file" in str(caught.value)


def test_a_file_of_authorities_that_holds_none_is_named(tmp_path):
    (tmp_path / "ca").write_text("not a certificate")
    with pytest.raises(ForwardError) as caught:
        tls_context(Tls(ca=str(tmp_path / "ca")))
    assert str(tmp_path / "ca") in str(caught.value)


def test_a_name_that_cannot_be_resolved_is_no_firewall():
    advice = sockets._advice(address.parse("tcp://collectr:24224"), socket.gaierror(-2, "Name or service not known"))
    assert advice == "check the host name, which cannot be resolved here"
