"""What goes wrong with etcd, in sentences that name what an operator can look at. Pure.

The texts on the left are etcd's own (api/v3rpc/rpctypes/error.go, the same from 3.4 to 3.6), gRPC's and BoringSSL's.
"""

from __future__ import annotations

from election.etcd_access import EtcdAccess

AUTH_IS_OFF = "authentication is not enabled"
WRONG_PASSWORD = "invalid user ID or password"  # noqa: S105 - what etcd says
TOKEN_REFUSED = ("invalid auth token", "revision of auth store is old", "user name is empty")
"""Said before anything is applied: the call may be sent again with a new token. The last: etcd's authentication was turned on meanwhile."""
OLDEST = (3, 4)
"""Before etcd 3.4 a watch could not be asked for a sign of life."""
DENIED = "permission denied"
UNKNOWN_SERVICE = "unknown service"

TLS = (
    ("VERIFY_FAILED: certificate has expired", "shows a certificate that has expired"),
    ("VERIFY_FAILED: certificate is not yet valid", "shows a certificate that is not valid yet: are the clocks right?"),
    ("CERTIFICATE_VERIFY_FAILED", "shows a certificate that was not signed by {authority}"),
    ("Hostname Verification Check failed", "shows a certificate that was made for another name or address"),
    ("Handshake read failed", "ended the TLS handshake: does it speak TLS, or is http:// right?"),
    ("WRONG_VERSION_NUMBER", "does not speak TLS: http:// may be right"),
    # Under TLS 1.3 the server judges the client after the client's own handshake has ended, and gRPC cannot read its alert.
    ("Unwrap failed", "{certificate}"),
    ("ALERT_BAD_CERTIFICATE", "{certificate}"),
    ("ALERT_CERTIFICATE", "{certificate}"),
    ("ALERT_UNKNOWN_CA", "{certificate}"),
    ("handshake failed", "does not agree on a TLS connection"),
)
AUTH = (
    (WRONG_PASSWORD, "does not know user {user} with the password of {password_file}"),
    ("user name is empty", "asks for a user: username and password_file are needed, or a client certificate with a user's name"),
    ("invalid auth token", "does not accept the token that it gave to user {user}"),
    ("revision of auth store is old", "has just changed its users or roles"),
    (DENIED, "denies {who} the permission to {doing}"),
)
STATES = (
    ("no leader", "has no quorum"),
    ("leader changed", "has lost its quorum for a moment"),
    ("request timed out", "has no quorum, or is overloaded"),
    ("not supported for learner", "is a learner, which answers no requests"),
    ("space exceeded", "is full (alarm NOSPACE): compact and defragment it, then disarm the alarm"),
    ("corrupt cluster", "has found its data to be corrupt (alarm CORRUPT)"),
    ("too many requests", "has too many requests"),
    ("request is too large", "takes no record of this size"),
    ("server stopped", "is being stopped"),
    ("not capable", "is too old, or in the middle of an upgrade"),
    (UNKNOWN_SERVICE, "is no etcd, or too old: version 3.4 or newer is needed"),
    ("Connection refused", "refuses the connection"),
    # After an attempt to connect, which has the address before it.
    (": Socket closed", "closed the connection at once{scheme}"),
    ("Socket closed", "closed the connection"),
    ("failed to connect", "cannot be reached"),
    ("timed out", "cannot be reached"),
)


class EtcdFault(Exception):  # noqa: N818 - faults of the store are its everyday life, not errors of this program
    """The server did not do it, or nobody knows whether it did; the message is a sentence that says why."""


def meaning(details: str, access: EtcdAccess, *, tls: bool, doing: str = "") -> str:
    """Return what the server did, to follow its name in a sentence. `doing`: what was asked of it (`write /vipd/x`)."""
    sentence = next((text for part, text in (*TLS, *AUTH, *STATES) if part in details), "")
    if not sentence:
        return f"failed: {details}"
    refused = f"does not accept the client certificate {access.cert_file}: is it expired, or is its authority another one?"
    return sentence.format(
        authority=f"ca_file {access.ca_file}" if access.ca_file else "an authority known to this system",
        certificate=refused if access.cert_file else "wants a client certificate: cert_file and key_file are needed",
        user=access.username,
        password_file=access.password_file,
        who=_who(access),
        doing=doing,
        scheme="" if tls else ": does it want https://?",
    )


def _who(access: EtcdAccess) -> str:
    if access.username:
        return f"user {access.username}"
    return f"the user of the client certificate {access.cert_file}" if access.cert_file else "a client without a user"


def too_old(version: str) -> bool:
    """Whether a server of this version lacks what vipd needs; one that cannot be read is given the benefit of the doubt."""
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return major.isdigit() and minor.isdigit() and (int(major), int(minor)) < OLDEST
