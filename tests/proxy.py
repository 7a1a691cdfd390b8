"""A TCP proxy that fails like a network: it resets connections at a chosen step, forwards nothing, or adds latency."""

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress

RESET = struct.pack("ii", 1, 0)
"""Value of SO_LINGER with which close() sends a reset."""

Fault = Callable[["Pair", bytes], bool]
"""What happens to a chunk that a client sent. Returns whether the proxy still forwards it."""


class Pair:
    """One connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.open_half = False
        self.loses_answer = False

    def reset(self) -> None:
        """Resets the connection of the client and closes that of the server."""
        with suppress(OSError):
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            # Wakes the thread that reads from it: before that, close() has no effect on the network.
            self.client.shutdown(socket.SHUT_RD)
        self.client.close()
        with suppress(OSError):
            self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()


def reset_before(pair: Pair, data: bytes) -> bool:
    """Resets the connection. The server does not get the chunk."""
    pair.reset()
    return False


def reset_within(pair: Pair, data: bytes) -> bool:
    """Resets the connection after half of the chunk was forwarded."""
    pair.server.sendall(data[: len(data) // 2])
    pair.reset()
    return False


def reset_after(pair: Pair, data: bytes) -> bool:
    """Forwards the chunk, and resets the connection before the server's response."""
    pair.loses_answer = True
    return True


def half_open(pair: Pair, data: bytes) -> bool:
    """Forwards nothing any more in either direction, and keeps the connection open."""
    pair.open_half = True
    return False


class Proxy:
    """A proxy in front of a server. While `silent` is set, it keeps connections open and forwards nothing. `latency`:
    seconds that each chunk from a client is delayed."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.silent = threading.Event()
        self.latency = 0.0
        self._pairs: list[Pair] = []
        self._fault: Fault | None = None
        self._steps = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def plan(self, step: int, fault: Fault) -> None:
        """Applies the fault once, to the chunk that follows after `step` chunks, counted over all connections."""
        self._steps, self._fault = step, fault

    def forget(self) -> None:
        """Cancels the planned fault."""
        self._fault = None

    @property
    def happened(self) -> bool:
        """Whether the planned fault has happened."""
        return self._fault is None

    def close(self) -> None:
        """Stops accepting connections, and resets the open ones."""
        self._listener.close()
        for pair in self._pairs:
            pair.reset()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(self.target)
                except OSError:
                    # The server may be starting again.
                    client.close()
                    continue
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                pair = Pair(client, server)
                self._pairs.append(pair)
                for forward in (self._questions, self._answers):
                    threading.Thread(target=forward, args=(pair,), daemon=True).start()

    def _questions(self, pair: Pair) -> None:
        with suppress(OSError):
            try:
                while data := pair.client.recv(65536):
                    time.sleep(self.latency)
                    fault = None
                    if self._fault and not pair.open_half:
                        fault, self._fault = (self._fault, None) if self._steps == 0 else (None, self._fault)
                        self._steps -= 1
                    if (fault is None or fault(pair, data)) and not self.silent.is_set() and not pair.open_half:
                        pair.server.sendall(data)
            except ConnectionResetError:
                # The client was killed before it read a response. The server is informed, as without a proxy.
                if pair.open_half:
                    return
            pair.server.shutdown(socket.SHUT_WR)

    def _answers(self, pair: Pair) -> None:
        with suppress(OSError):
            while data := pair.server.recv(65536):
                if pair.loses_answer:
                    pair.reset()
                    return
                if not self.silent.is_set() and not pair.open_half:
                    pair.client.sendall(data)
            if not pair.open_half:
                pair.client.shutdown(socket.SHUT_WR)
