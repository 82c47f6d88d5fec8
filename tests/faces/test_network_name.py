"""The address by name: announced and taken back, and nothing is missed where that cannot be done."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from livestack.faces.web.network_name import announce


class Fake:
    """What of zeroconf is used, remembering what it was asked."""

    class Error(Exception):
        pass

    def __init__(self, fails: Exception | None = None) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self._fails = fails

    def ServiceInfo(self, kind: str, name: str, **facts: Any) -> SimpleNamespace:
        return SimpleNamespace(kind=kind, name=name, **facts)

    def Zeroconf(self, interfaces: list[str]) -> Fake:
        if self._fails is not None:
            raise self._fails
        self.asked.append(("open", *interfaces))
        return self

    def register_service(self, info: SimpleNamespace, allow_name_change: bool) -> None:
        self.asked.append(("register", info.server, info.port, info.addresses[0]))

    def unregister_service(self, info: SimpleNamespace) -> None:
        self.asked.append(("unregister", info.server))

    def close(self) -> None:
        self.asked.append(("close",))


def test_a_name_is_announced_and_taken_back() -> None:
    fake = Fake()
    name = announce("192.168.1.7", 8765, lambda: fake)
    assert name is not None
    assert name.url == "http://livestack.local:8765/"
    name.close()
    assert fake.asked == [
        ("open", "192.168.1.7"), ("register", "livestack.local.", 8765, socket.inet_aton("192.168.1.7")),
        ("unregister", "livestack.local."), ("close",),
    ]  # fmt: skip


@pytest.mark.parametrize("error", [OSError("no multicast here"), Fake.Error("not announced")])
def test_a_network_that_forbids_it_costs_only_the_name(error: Exception) -> None:
    assert announce("192.168.1.7", 8765, lambda: Fake(error)) is None


def test_without_the_extra_there_is_no_name() -> None:
    def missing() -> Any:
        raise ImportError("No module named 'zeroconf'")

    assert announce("192.168.1.7", 8765, missing) is None
