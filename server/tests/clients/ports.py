"""Free ports of loopback for servers that have to know them before they run.

They lie below the range of outgoing connections: until the server listens, and while it is down, no connection is
given one of them, and a client that knocks cannot connect to itself.

    python3 ports.py COUNT      prints so many, on one line
"""

import pathlib
import random
import socket
import sys

RANGE = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
TRIES = 1000


def free_ports(count):
    """So many, all different."""
    low = int(RANGE.read_text().split()[0])
    found = []
    for _ in range(TRIES):
        if len(found) == count:
            return found
        port = random.randrange(max(1024, low - 12000), low)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    raise OSError(f"{TRIES} ports below {low} were tried and {count} free ones not found: stop what listens on them")


def free_port():
    return free_ports(1)[0]


if __name__ == "__main__":
    print(*free_ports(int(sys.argv[1])))
