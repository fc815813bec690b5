"""What is said of others who answer for an address, and how often they are answered."""

from __future__ import annotations

from announce.rivals.rivals import RIVALS_KEPT, Dispute


def heard(dispute: Dispute, mac: str, moment: float) -> str:
    """Take in one frame and return the line for it."""
    dispute.add_frame(mac)
    return dispute.line(moment)


def test_the_first_frame_is_said_at_once_and_the_same_rival_again_after_a_minute() -> None:
    """One line for a rival, not one for each of its frames."""
    dispute = Dispute("192.0.2.10")
    lines = [
        (moment / 10, line)
        for moment in range(1500)
        if (line := heard(dispute, "02:00:00:00:00:01", moment / 10))
    ]
    assert [moment for moment, _ in lines] == [0.0, 60.0, 120.0]
    assert {line for _, line in lines} == {
        "02:00:00:00:00:01 answers for 192.0.2.10 as well; announcing against it"
    }


def test_a_storm_of_macs_is_a_line_in_ten_seconds_with_a_count() -> None:
    """What is kept does not grow with it."""
    dispute = Dispute("192.0.2.10")
    lines = []
    for number in range(30_001):
        line = heard(dispute, f"02:00:00:{number:06x}", number / 1000)
        lines += [line] if line else []
        assert len(dispute.macs) <= RIVALS_KEPT
        assert len(dispute.said) <= RIVALS_KEPT
    assert len(lines) == 4
    assert "16 MAC addresses or more" in lines[1]
    assert "at least 10000 frames in 10s" in lines[1]


def test_a_few_rivals_are_named() -> None:
    """The second of them after ten seconds, when there is something new to say."""
    dispute = Dispute("2001:db8::10")
    heard(dispute, "02:00:00:00:00:01", 0.0)
    assert heard(dispute, "02:00:00:00:00:02", 1.0) == ""
    assert dispute.line(9.9) == ""
    assert (
        dispute.line(10.0)
        == "02:00:00:00:00:02 answers for 2001:db8::10 as well; announcing against it"
    )
    for mac in ("02:00:00:00:00:02", "02:00:00:00:00:03"):
        heard(dispute, mac, 12.0)
    assert dispute.line(20.0) == (
        "2 MAC addresses (02:00:00:00:00:02, 02:00:00:00:00:03) answer for 2001:db8::10 as "
        "well, at least 2 frames in 10s; "
        "announcing against them"
    )
    assert dispute.line(100.0) == ""


def test_an_announcement_against_them_leaves_once_a_second() -> None:
    """However many they are."""
    dispute = Dispute("192.0.2.10")
    assert sum(dispute.answers(number / 1000) for number in range(5000)) == 5
