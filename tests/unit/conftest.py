"""Each process imports all modules of tests, to find them, and runs some of the tests. What takes long to import and
few tests use is therefore imported in these."""

import socket
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails unit tests that open a network connection."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a unit test opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
