"""Which addresses this process may connect to: asked after a name is resolved, so that no name leads astray.

Public addresses are allowed. Loopback and private networks are only where the operator says so; link-local addresses,
where clouds answer with credentials, never are.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LOOPBACK = ("127.0.0.0/8", "::1/128")
# RFC 1918, RFC 6598 (carriers' NAT) and RFC 4193.
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
# Metadata services that lie outside of the link-local ranges: Amazon (IPv6), Alibaba, Azure.
METADATA = frozenset(map(ip_address, ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")))
_NAMED = {"loopback": LOOPBACK, "private": PRIVATE}
_PRIVATE = "it is in a private network; FINGERPOST_PRIVATE_NETWORKS lists those that upstreams may be in"
_NAT64 = ip_network("64:ff9b::/96")


class AddressRefused(OSError):
    """An upstream's name leads to an address that must not be called."""


class NetworksError(ValueError):
    """The setting can't be read."""


@dataclass(frozen=True, slots=True)
class OutboundGuard:
    """What beside public addresses may be called."""

    allowed: tuple[Network, ...]

    @classmethod
    def from_text(cls, text: str) -> OutboundGuard:
        """From "loopback, private, 10.1.0.0/16"; `NetworksError` names the part that can't be read."""
        networks: list[Network] = []
        for part in filter(None, (one.strip() for one in text.split(","))):
            for written in _NAMED.get(part, (part,)):
                try:
                    networks.append(ip_network(written))
                except ValueError as error:
                    raise NetworksError(
                        f"'{part[:60]}' is neither 'loopback', 'private' nor a network such as 10.1.0.0/16"
                    ) from error
        return cls(tuple(networks))

    def refusal(self, address: Address) -> str | None:
        """Why an address must not be called; None where it may."""
        address = _bare(address)
        if address in METADATA or address.is_link_local:
            return "clouds keep credentials there; FINGERPOST_PRIVATE_NETWORKS can't allow it"
        if isinstance(address, IPv6Address) and address.is_site_local:
            return _PRIVATE
        if address.is_multicast or address.is_unspecified or (address.is_reserved and not address.is_loopback):
            return "it is not the address of one machine"
        if any(address.version == network.version and address in network for network in self.allowed):
            return None
        if address.is_global:
            return None
        return _PRIVATE

    async def resolve(self, host: str, port: int) -> list[str]:
        """Addresses of a host that may be called, in the resolver's order. `AddressRefused` where any may not be:
        a name that leads to both kinds is not to be trusted with either. `OSError` where there is none."""
        literal = literal_address(host)
        if literal is None:
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(where[0]) for _, _, _, _, where in found))
        else:
            addresses = [str(literal)]
        for text in addresses:
            reason = self.refusal(ip_address(text.partition("%")[0]))
            if reason is not None:
                raise AddressRefused(f"{host} leads to {text}, which is not called: {reason}")
        if not addresses:
            raise OSError(f"{host} has no address")
        return addresses


def literal_address(host: str) -> Address | None:
    """The address that a host is written as; None where it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def _bare(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, if it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
