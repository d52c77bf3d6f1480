"""Redis URLs: every spelling that is understood, and what is said of the others."""

from __future__ import annotations

import ssl

import pytest

from gateway.redis_link import encoded
from gateway.redis_url import RedisUrlError, parse_redis_url


def test_everything_a_url_can_say_is_understood() -> None:
    address = parse_redis_url("redis://ada:p%40ss@cache.example:6380/2")

    assert (address.host, address.port, address.db) == ("cache.example", 6380, 2)
    assert (address.username, address.password, address.tls) == ("ada", "p@ss", None)
    assert str(address) == "cache.example:6380/2"


def test_what_a_url_leaves_out_has_its_usual_value() -> None:
    address = parse_redis_url("redis://")

    assert (address.host, address.port, address.db, address.password) == ("localhost", 6379, 0, None)


def test_a_unix_socket_is_a_path() -> None:
    address = parse_redis_url("unix://:secret@/run/redis.sock?db=1")

    assert (address.path, address.db, address.password) == ("/run/redis.sock", 1, "secret")
    assert str(address) == "/run/redis.sock"


def test_rediss_means_tls_with_verified_certificates_unless_it_says_otherwise() -> None:
    strict = parse_redis_url("rediss://host").tls
    lax = parse_redis_url("rediss://host?ssl_cert_reqs=none").tls

    assert strict is not None
    assert lax is not None
    assert strict.verify_mode is ssl.CERT_REQUIRED
    assert strict.check_hostname
    assert lax.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize(
    "url",
    [
        "http://:hush@host",
        "redis://:hush@host:port",
        "redis://:hush@host/one",
        "redis://:hush@host?ssl_cert_reqs=none",
        "rediss://:hush@host?ssl_ca_certs=/no/such/file",
        "unix://",
        "hush",
    ],
)
def test_a_wrong_url_is_refused_without_telling_its_password(url: str) -> None:
    with pytest.raises(RedisUrlError) as refused:
        parse_redis_url(url)

    assert "hush" not in str(refused.value)


def test_arguments_are_encoded_once_as_redis_reads_them() -> None:
    assert encoded(("a", 12, b"\n")).wire == b"$1\r\na\r\n$2\r\n12\r\n$1\r\n\n\r\n"
    assert encoded(("a", 12, b"\n")).count == 3
    assert encoded(()).count == 0
