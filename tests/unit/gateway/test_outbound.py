"""Which addresses may be called."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import AddressForbidden
from gateway.outbound import AddressRefused, NetworksError, OutboundGuard
from gateway.posting import Poster
from gateway.providers.h1_client import H1Client

LOOPBACK = OutboundGuard.from_text("loopback")
OPEN = OutboundGuard.from_text("loopback, private, 169.254.0.0/16, fe80::/10, 0.0.0.0/0, ::/0")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_loopback_and_public_addresses_are_called_by_default(address: str) -> None:
    assert LOOPBACK.refusal(ip_address(address)) is None


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "172.16.5.5",
        "192.168.1.1",
        "100.64.0.1",
        "fc00::1",
        "fec0::1",
        "2002:a00:1::",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
    ],
)
def test_private_addresses_need_the_operators_word(address: str) -> None:
    reason = LOOPBACK.refusal(ip_address(address))

    assert reason is not None and "FINGERPOST_PRIVATE_NETWORKS" in reason


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fe80::1", "fd00:ec2::254", "100.100.100.200",
     "168.63.129.16", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"],
)  # fmt: skip
def test_nothing_that_an_operator_writes_opens_metadata_and_nowhere_addresses(address: str) -> None:
    assert OPEN.refusal(ip_address(address)) is not None


@given(st.integers(0, 2**32 - 1))
def test_an_address_mapped_into_ipv6_is_judged_like_itself(number: int) -> None:
    plain = ip_address(number)

    assert LOOPBACK.refusal(ip_address(f"::ffff:{plain}")) == LOOPBACK.refusal(plain)


def test_a_listed_network_opens_its_addresses_and_no_others() -> None:
    guard = OutboundGuard.from_text("10.1.0.0/16")

    assert guard.refusal(ip_address("10.1.2.3")) is None
    assert guard.refusal(ip_address("10.2.2.3")) is not None
    assert guard.refusal(ip_address("127.0.0.1")) is not None


def test_a_network_that_cannot_be_read_is_named() -> None:
    with pytest.raises(NetworksError, match="'localnet' is neither"):
        OutboundGuard.from_text("loopback, localnet")


async def test_a_name_that_also_leads_to_a_forbidden_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, 1, 6, "", (address, 443)) for address in ("93.184.216.34", "169.254.169.254")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)

    with pytest.raises(AddressRefused, match=r"leads to 169\.254\.169\.254"):
        await LOOPBACK.resolve("rebound.example", 443)


@pytest.mark.parametrize("host", ["0x0a000001", "0xa9fea9fe", "167772161"])
async def test_numbers_that_a_resolver_takes_for_addresses_are_judged_as_such(host: str) -> None:
    with pytest.raises(AddressRefused):
        await LOOPBACK.resolve(host, 443)


async def test_webhooks_and_traces_go_by_the_same_guard(caplog: pytest.LogCaptureFixture) -> None:
    poster = Poster(H1Client(guard=LOOPBACK))

    with pytest.raises(AddressForbidden) as refused:
        await poster.json("http://169.254.169.254/latest", b"{}")
    with pytest.raises(OSError, match="not one that may be called"):
        await poster.protobuf("http://10.0.0.1:4318/v1/traces", b"")

    assert "169.254" not in refused.value.message
    assert [("169.254.169.254" in line, "FINGERPOST_PRIVATE_NETWORKS" in line) for line in caplog.messages] == [
        (True, True),
        (False, True),
    ]


async def test_the_reason_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    poster = Poster(H1Client(guard=LOOPBACK))

    for _ in range(5):
        with pytest.raises(AddressForbidden):
            await poster.json("http://10.0.0.1/", b"{}")

    assert len(caplog.messages) == 1
