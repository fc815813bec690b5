from __future__ import annotations

import asyncio

from health.kinds.interface import InterfaceProbe
from health.model import InterfaceCheck, LinkState


def test_it_repeats_what_it_was_told() -> None:
    """Unknown at first, then the last event about its own interface; down is proof."""

    async def scenario() -> None:
        probe = InterfaceProbe(InterfaceCheck("eth0"))
        assert (await probe.run()).up is None
        assert probe.push(LinkState("eth0", up=False, detail="no carrier"))
        result = await probe.run()
        assert (result.up, result.refused) == (False, True)
        assert "no carrier" in result.detail
        assert not probe.push(LinkState("eth1", up=True))
        assert (await probe.run()).up is False
        assert probe.push(LinkState("eth0", up=True))
        assert (await probe.run()).up is True
        assert probe.push(LinkState("eth0", up=None, detail="events were lost"))
        assert (await probe.run()).up is None
        await probe.close()

    asyncio.run(scenario())


def test_a_repeated_event_is_no_change() -> None:
    """The kernel says the same thing several times; that must not pass for several results."""
    probe = InterfaceProbe(InterfaceCheck("eth0"))
    assert probe.push(LinkState("eth0", up=True))
    assert not probe.push(LinkState("eth0", up=True, detail="mtu changed"))
