"""What goes wrong with etcd, in sentences that name what an operator can look at. Pure.

The texts on the left are etcd's own (api/v3rpc/rpctypes/error.go, the same from 3.4 to 3.6), gRPC's
and BoringSSL's.
"""

from __future__ import annotations

from election.outage import Outage
from election.stores.etcd.access import EtcdAccess

AUTH_IS_OFF = "authentication is not enabled"
WRONG_PASSWORD = "invalid user ID or password"  # noqa: S105 - what etcd says
TOKEN_REFUSED = ("invalid auth token", "revision of auth store is old", "user name is empty")
"""Said before anything is applied: the call may be sent again with a new token. The last: etcd's
authentication was turned on meanwhile."""
OLDEST = (3, 4)
"""Before etcd 3.4 a watch could not be asked for a sign of life."""
DENIED = "permission denied"
UNKNOWN_SERVICE = "unknown service"
TOO_LARGE = "request is too large"
TOO_MANY_OPERATIONS = "too many operations in txn request"

REFUSALS = (DENIED, TOO_LARGE, TOO_MANY_OPERATIONS)
"""Said before anything is applied, of a whole transaction. "Space exceeded" is not among them: etcd
says it of writes that it applied."""

Meaning = tuple[str, str, Outage]
"""A part of what was said, what it means, and what kind of outage it is."""

TLS: tuple[Meaning, ...] = (
    (
        "VERIFY_FAILED: certificate has expired",
        "shows a certificate that has expired",
        Outage.UNREACHABLE,
    ),
    (
        "VERIFY_FAILED: certificate is not yet valid",
        "shows a certificate that is not valid yet: are the clocks right?",
        Outage.UNREACHABLE,
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "shows a certificate that was not signed by {authority}",
        Outage.UNREACHABLE,
    ),
    (
        "Hostname Verification Check failed",
        "shows a certificate that was made for another name or address",
        Outage.UNREACHABLE,
    ),
    (
        "Handshake read failed",
        "ended the TLS handshake: does it speak TLS, or is http:// right?",
        Outage.UNREACHABLE,
    ),
    ("WRONG_VERSION_NUMBER", "does not speak TLS: http:// may be right", Outage.UNREACHABLE),
    # Under TLS 1.3 the server judges the client after the client's own handshake has ended, and
    # gRPC cannot read its alert.
    ("Unwrap failed", "{certificate}", Outage.REFUSING),
    ("ALERT_BAD_CERTIFICATE", "{certificate}", Outage.REFUSING),
    ("ALERT_CERTIFICATE", "{certificate}", Outage.REFUSING),
    ("ALERT_UNKNOWN_CA", "{certificate}", Outage.REFUSING),
    ("handshake failed", "does not agree on a TLS connection", Outage.UNREACHABLE),
)
AUTH: tuple[Meaning, ...] = (
    (
        WRONG_PASSWORD,
        "does not know user {user} with the password of {password_file}",
        Outage.REFUSING,
    ),
    (
        "user name is empty",
        (
            "asks for a user: username and password_file are needed, or a client certificate with "
            "a user's name"
        ),
        Outage.REFUSING,
    ),
    (
        "invalid auth token",
        "does not accept the token that it gave to user {user}",
        Outage.REFUSING,
    ),
    ("revision of auth store is old", "has just changed its users or roles", Outage.REFUSING),
    (DENIED, "denies {who} the permission to {doing}", Outage.REFUSING),
)
STATES: tuple[Meaning, ...] = (
    ("no leader", "has no quorum", Outage.NO_QUORUM),
    ("leader changed", "has lost its quorum for a moment", Outage.NO_QUORUM),
    ("request timed out", "has no quorum, or is overloaded", Outage.NO_QUORUM),
    ("not supported for learner", "is a learner, which answers no requests", Outage.FAILING),
    (
        "space exceeded",
        "is full (alarm NOSPACE): compact and defragment it, then disarm the alarm",
        Outage.FULL,
    ),
    ("corrupt cluster", "has found its data to be corrupt (alarm CORRUPT)", Outage.FAILING),
    ("too many requests", "has too many requests", Outage.THROTTLED),
    (TOO_LARGE, "takes no record of this size", Outage.FAILING),
    (
        TOO_MANY_OPERATIONS,
        "takes fewer operations at once than vipd needs: raise its max-txn-ops",
        Outage.FAILING,
    ),
    ("server stopped", "is being stopped", Outage.UNREACHABLE),
    ("not capable", "is too old, or in the middle of an upgrade", Outage.TOO_OLD),
    (UNKNOWN_SERVICE, "is no etcd, or too old: version 3.4 or newer is needed", Outage.TOO_OLD),
    ("Connection refused", "refuses the connection", Outage.UNREACHABLE),
    # After an attempt to connect, which has the address before it.
    (": Socket closed", "closed the connection at once{scheme}", Outage.UNREACHABLE),
    ("Socket closed", "closed the connection", Outage.UNREACHABLE),
    ("failed to connect", "cannot be reached", Outage.UNREACHABLE),
    ("Connection reset", "broke the connection", Outage.UNREACHABLE),
    ("Broken pipe", "broke the connection", Outage.UNREACHABLE),
    ("Stream removed", "broke the connection", Outage.UNREACHABLE),
    ("timed out", "cannot be reached", Outage.UNREACHABLE),
)


def meaning(details: str, access: EtcdAccess, *, tls: bool, doing: str = "") -> tuple[str, Outage]:
    """Return what the server did, to follow its name in a sentence, and its kind.

    `doing`: what was asked of it (`write /vipd/x`).
    """
    sentence, outage = next(
        ((text, kind) for part, text, kind in (*TLS, *AUTH, *STATES) if part in details),
        ("", Outage.FAILING),
    )
    if not sentence:
        return f"failed: {details}", outage
    refused = (
        f"does not accept the client certificate {access.cert_file}: is it expired, or is "
        "its authority another one?"
    )
    said = sentence.format(
        authority=f"ca_file {access.ca_file}"
        if access.ca_file
        else "an authority known to this system",
        certificate=refused
        if access.cert_file
        else "wants a client certificate: cert_file and key_file are needed",
        user=access.username,
        password_file=access.password_file,
        who=_who(access),
        doing=doing,
        scheme="" if tls else ": does it want https://?",
    )
    return said, outage


def _who(access: EtcdAccess) -> str:
    if access.username:
        return f"user {access.username}"
    return (
        f"the user of the client certificate {access.cert_file}"
        if access.cert_file
        else "a client without a user"
    )


def too_old(version: str) -> bool:
    """Whether a server of this version lacks what vipd needs.

    One that cannot be read is given the benefit of the doubt.
    """
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return major.isdigit() and minor.isdigit() and (int(major), int(minor)) < OLDEST
