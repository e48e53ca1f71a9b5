"""What an address says of who can reach it."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    return host.lower() == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def is_address(host: str) -> bool:
    """Whether it is an IP address, and not a name that stands for one."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
