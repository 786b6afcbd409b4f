"""A load maker: connections that each send the same request again as soon as it is answered.

One process, one thread, raw sockets and epoll, so that it takes less of its core than a server
takes of its own. ``python -m benchmarks.load PORT CONNECTIONS SECONDS REQUEST`` prints JSON;
REQUEST is a file that holds the request as it goes over the wire. Linux only.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from pathlib import Path

PIECE = 1 << 18


def answer(connection: socket.socket) -> bytes:
    """Receive one whole answer; return its head."""
    data = connection.recv(PIECE)
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _more(connection)
    head = data[:end].lower()
    start = head.index(b"content-length:") + len(b"content-length:")
    stop = head.find(b"\r\n", start)
    left = end + 4 + int(head[start : stop if stop > 0 else None]) - len(data)
    while left > 0:
        left -= len(_more(connection))
    return head


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(PIECE)
    if not data:
        raise SystemExit("the server hung up")
    return data


def load(port: int, connections: int, seconds: float, request: bytes) -> dict[str, float]:
    """Send for so long; return requests a second, and percentiles of the wait in ms."""
    sockets, sent, waits = {}, {}, []
    poll = select.epoll()
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)
    begun = time.perf_counter()
    for number, connection in sockets.items():
        sent[number] = time.perf_counter()
        connection.sendall(request)
    while time.perf_counter() < begun + seconds:
        for number, _ in poll.poll():
            head = answer(sockets[number])
            now = time.perf_counter()
            waits.append(now - sent[number])
            if not head.startswith(b"http/1.1 200"):
                raise SystemExit(head.decode())
            sent[number] = now
            sockets[number].sendall(request)
    took = time.perf_counter() - begun
    waits.sort()
    return {
        "rate": len(waits) / took,
        "p50": 1000 * waits[len(waits) // 2],
        "p99": 1000 * waits[int(0.99 * len(waits))],
    }


if __name__ == "__main__":
    port, connections, seconds, file = sys.argv[1:]
    found = load(int(port), int(connections), float(seconds), Path(file).read_bytes())
    sys.stdout.write(json.dumps(found))
