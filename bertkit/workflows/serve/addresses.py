"""What an address says of who can reach it."""

import ipaddress
import socket


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    return host.lower() == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def url_of(host: str, port: int) -> str:
    """Where a server is opened; one that listens at every address of this machine, by the machine's name."""
    if is_address(host) and ipaddress.ip_address(host).is_unspecified:
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def is_address(host: str) -> bool:
    """Whether it is an IP address, and not a name that stands for one."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
