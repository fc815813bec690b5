"""One address in two elections of a store: the later one stays out."""

from __future__ import annotations

from election.claims import Claims, hosts
from election.model import Absent, Content, Found, Record
from election.stores.contract import ElectionChanged

VIP = "192.0.2.10"
LEASE = 3.0


def held(*addresses: str, holder: str = "n1", bound: bool = False) -> Found:
    """Return a record with these addresses."""
    return Found(
        Record("uid", holder, "s1", 1, 1, round(LEASE * 1000), addresses=addresses, bound=bound),
        "r1",
    )


def against(claims: Claims, now: float, election: str = "web", *, active: bool = False) -> str:
    """Ask for an election that has the VIP."""
    return claims.against(now, election, frozenset({VIP}), active=active)


def claimed(content: Content, election: str = "old", at: float = 100.0) -> Claims:
    """Return claims after one event."""
    claims = Claims()
    claims.observe_election(at, ElectionChanged(election, content))
    return claims


def test_an_address_that_another_election_holds_is_respected() -> None:
    """Under whatever prefix length it is written."""
    assert against(claimed(held(f"{VIP}/32")), 100.0) == "old"
    assert against(claimed(held("2001:db8::1/128", f"{VIP}/24")), 100.0) == "old"


def test_what_claims_nothing_is_no_claim() -> None:
    """Other addresses, an election's own record, one without a holder, and one that is gone."""
    assert against(claimed(held("192.0.2.11/32")), 100.0) == ""
    assert against(claimed(held(f"{VIP}/32"), "web"), 100.0) == ""
    assert against(claimed(held(f"{VIP}/32", holder="")), 100.0) == ""
    claims = claimed(held(f"{VIP}/32"))
    claims.observe_election(101.0, ElectionChanged("old", Absent()))
    assert against(claims, 101.0) == ""


def test_a_record_that_nobody_renews_claims_nothing() -> None:
    """For two leases it may be between two holders; then nobody wants it."""
    claims = claimed(held(f"{VIP}/32"))
    assert against(claims, 100.0 + 2 * LEASE - 0.001) == "old"
    assert against(claims, 100.0 + 2 * LEASE) == ""
    claims.observe_election(110.0, ElectionChanged("old", held(f"{VIP}/32")))
    assert against(claims, 110.0) == "old"


def test_who_is_active_was_first() -> None:
    """It gives way only to one that is Active as well and has the smaller name, so that exactly one
    of the two does.
    """
    claims = claimed(held(f"{VIP}/32", bound=True), "m")
    assert against(claims, 100.0, "a", active=True) == ""
    assert against(claims, 100.0, "z", active=True) == "m"
    assert against(claims, 100.0, "a") == "m"


def test_who_is_active_does_not_give_way_to_one_that_has_only_taken_its_record() -> None:
    """Its take was under way when it learnt of this claim.

    It lets go before it binds, and must not be let in by that.
    """
    claims = claimed(held(f"{VIP}/32"), "m")
    assert against(claims, 100.0, "z", active=True) == ""
    assert against(claims, 100.0, "z") == "m"
    assert claims.observe_election(100.1, ElectionChanged("m", held(f"{VIP}/32", bound=True))) == {
        VIP
    }
    assert against(claims, 100.1, "z", active=True) == "m"


def test_hosts_are_addresses_without_their_prefix_lengths() -> None:
    """What is no address is left out: anybody may have written the record."""
    assert hosts((f"{VIP}/32", "2001:DB8:0::1/64", "nonsense", "")) == {VIP, "2001:db8::1"}


def test_a_renewal_changes_no_claim() -> None:
    """Only what others may have to respect is worth a look, and only theirs.

    A holder that comes or goes, other addresses.
    """
    claims, other = Claims(), "192.0.2.11"

    def seen(content: Content, at: float) -> frozenset[str]:
        return claims.observe_election(at, ElectionChanged("old", content))

    assert seen(held(f"{VIP}/32"), 100.0) == {VIP}
    assert not seen(held(f"{VIP}/32"), 101.0)
    assert not seen(held(f"{VIP}/24", holder="n2"), 102.0)
    assert seen(held(f"{VIP}/32", f"{other}/32"), 103.0) == {other}
    assert seen(held(f"{VIP}/32"), 104.0) == {other}
    assert seen(held(f"{VIP}/32", holder=""), 105.0) == {VIP}
    assert not seen(held(f"{VIP}/32", holder=""), 106.0)
    assert seen(held(f"{VIP}/32"), 107.0) == {VIP}
    assert seen(held(f"{VIP}/32"), 107.0 + 2 * LEASE) == {VIP}
    assert not seen(Absent(), 120.0)
    assert not claims._elections
