"""Who may see the page."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_rt.errors import StreamError
from deeplab_rt.streams.page.access import PORT, Access, Endpoint, split_host


@pytest.fixture
def local() -> Endpoint:
    return Endpoint(Access(port=0))


@pytest.mark.parametrize(
    ("host", "seen"),
    [
        ("localhost", True),
        ("127.0.0.1:9000", True),
        ("LOCALHOST:80", True),
        ("[::1]:80", True),
        ("evil.example:80", False),
        ("127.0.0.1.evil.example", False),
        ("[", False),
        ("[::1", False),
        ("localhost:x", False),
        ("user@localhost", False),
        ("localhost/..", False),
        ("", False),
    ],
)
def test_on_loopback_a_request_names_this_machine(local: Endpoint, host: str, seen: bool) -> None:
    assert (local.refusal({"Host": host}, "") is None) == seen
    local.socket.close()


def test_a_page_of_elsewhere_may_not_open_the_stream(local: Endpoint) -> None:
    own = {"Host": f"127.0.0.1:{local.port}"}
    assert local.refusal({**own, "Origin": f"http://127.0.0.1:{local.port}"}, "") is None
    for origin in ("http://evil.example", "http://127.0.0.1:1", "null", "", "http://["):
        assert local.refusal({**own, "Origin": origin}, "") == "only for the page itself"
    local.socket.close()


def test_loopback_is_the_default_and_needs_no_token(local: Endpoint) -> None:
    assert local.socket.getsockname()[0] == "127.0.0.1" and not local.is_open
    assert local.url == f"http://127.0.0.1:{local.port}/" and local.token == ""
    local.socket.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_open_page_needs_the_token_of_its_link(host: str) -> None:
    endpoint = Endpoint(Access(host, 0))
    with endpoint.socket:
        assert endpoint.is_open and endpoint.url.endswith(f"?token={endpoint.token}")
        assert len(endpoint.token) >= 20 and "0.0.0.0" not in endpoint.url
        assert endpoint.refusal({"Host": "any.name"}, endpoint.token) is None
        for token in ("", "guess", endpoint.token[:-1], "ü"):
            reason = endpoint.refusal({"Host": "any.name"}, token)
            assert reason is not None and "token is missing or wrong" in reason
    other = Endpoint(Access(host, 0))
    other.socket.close()
    assert other.token != endpoint.token


def test_a_port_in_use_is_replaced_unless_it_was_asked_for() -> None:
    with Endpoint(Access(port=0)).socket as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StreamError, match=f"port {port}: .*give another --port"):
            Endpoint(Access(port=port))
    first, second = Endpoint(Access()), Endpoint(Access())
    with first.socket, second.socket:
        assert first.port != second.port and second.port != PORT


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid", "a" * 70, "\0"])
def test_no_such_address_is_one_clear_line(host: str) -> None:
    with pytest.raises(StreamError, match="address"):
        Endpoint(Access(host, 0))


@pytest.mark.parametrize("port", [65536, -1])
def test_no_such_port_is_one_clear_line(port: int) -> None:
    with pytest.raises(StreamError, match="expected 0 to 65535"):
        Endpoint(Access(port=port))


@given(st.text())
def test_any_host_header_is_a_name_or_none(text: str) -> None:
    found = split_host(text)
    assert found is None or (found[0] and "/" not in found[0])


def test_a_machine_that_is_off_every_network_still_has_a_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    endpoint = Endpoint(Access("0.0.0.0", 0))
    endpoint.socket.close()
    assert f"http://{socket.gethostname()}:" in endpoint.url
