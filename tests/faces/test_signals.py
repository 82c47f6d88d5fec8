"""A signal may come while the main thread holds the lock of the event that it wants to set."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import cast

import pytest

from livestack.faces.run import signals_to
from livestack.session.session import Session
from livestack.session.stop import StopRequest


@pytest.mark.timeout(60)
def test_a_signal_in_the_middle_of_a_wait_does_not_hang() -> None:
    stop = StopRequest()
    session = cast(Session, SimpleNamespace(stop=stop.signal, stop_request=stop))
    with signals_to(session):
        with stop.stopping._cond:  # type: ignore[attr-defined]
            signal.raise_signal(signal.SIGINT)
        assert stop.stopping.wait(10)
        assert not stop.aborting.is_set()
        assert stop.why is not None
    assert signal.getsignal(signal.SIGINT) is not None
