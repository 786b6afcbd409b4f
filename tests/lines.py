"""A line to a server, which can be cut: then nothing comes through and nobody is told."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

HOST = "127.0.0.1"
PIECE_BYTES = 1 << 16
LOOK_SECONDS = 0.1


class Line(threading.Thread):
    """Passes on what goes to a server and comes from it, until it is cut.

    A cut connection stays silent for ever, as one whose packets a firewall has
    begun to drop: what is sent is lost, and neither end hears of it. Until the
    line is mended new connections are accepted and are as silent.

    Parameters
    ----------
    server_port : int

    Attributes
    ----------
    port : int
        Where the line begins.
    """

    def __init__(self, server_port: int) -> None:
        super().__init__(name="line")
        self._server = (HOST, server_port)
        self._entrance = socket.create_server((HOST, 0))
        self.port: int = self._entrance.getsockname()[1]
        self._is_cut, self._cuts = False, 0
        self._over = threading.Event()

    def cut(self) -> None:
        """Cut every connection, and those to come."""
        self._is_cut = True
        self._cuts += 1

    def mend(self) -> None:
        """Carry what comes over new connections."""
        self._is_cut = False

    def take_down(self) -> None:
        """Hang up on everybody, and end."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Carry until taken down."""
        with ExitStack() as self._sockets, selectors.DefaultSelector() as self._selector:
            self._sockets.enter_context(self._entrance)
            self._selector.register(self._entrance, selectors.EVENT_READ)
            while not self._over.is_set():
                for key, _ in self._selector.select(LOOK_SECONDS):
                    if key.fileobj is self._entrance:
                        self._accept()
                    else:
                        self._carry(key)

    def _accept(self) -> None:
        caller = self._sockets.enter_context(self._entrance.accept()[0])
        cuts = -1 if self._is_cut else self._cuts
        try:
            server = self._sockets.enter_context(socket.create_connection(self._server))
        except OSError:  # it is not there
            caller.close()
            return
        for one, other in ((caller, server), (server, caller)):
            self._selector.register(one, selectors.EVENT_READ, (one, other, cuts))

    def _carry(self, key: selectors.SelectorKey) -> None:
        """Pass on what has come at one end to the other, also that it has hung up."""
        one, other, cuts = key.data
        piece = b""
        with suppress(OSError):
            piece = one.recv(PIECE_BYTES)
            if piece and cuts == self._cuts:
                other.sendall(piece)
        if not piece:
            self._hang_up(one)
            if cuts == self._cuts:
                self._hang_up(other)

    def _hang_up(self, end: socket.socket) -> None:
        if end.fileno() >= 0:  # else it went with the other end
            self._selector.unregister(end)
            end.close()


@contextmanager
def line(url: str) -> Iterator[tuple[Line, str]]:
    """Lay a line to a server; give it, and the URL that leads over it."""
    port = urlsplit(url).port
    assert port is not None
    laid = Line(port)
    laid.start()
    try:
        yield laid, url.replace(f"{HOST}:{port}", f"{HOST}:{laid.port}")
    finally:
        laid.take_down()
