"""Which store: that exactly one is given, with all it needs, and whether its files can be used here
and now.

What cannot be read is a warning: certificates and passwords come from elsewhere, may come later,
and are read again when they have changed. An error would end a start for good that only had to wait
for them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from election.stores.errors import BadAccess
from election.stores.etcd import access as etcd_access
from election.stores.etcd.access import EtcdAccess
from election.stores.files import no_file
from vipd.config import build
from vipd.config.findings import Findings, Path
from vipd.config.schema import BackendDraft, EtcdDraft, KubernetesDraft

KINDS = ("kubernetes", "etcd", "file")
EXAMPLES = "kubernetes: {namespace: …}, etcd: {endpoints: […]} or file: {path: …}"
HTTPS = "https://"


def relate(draft: BackendDraft | None, findings: Findings) -> None:
    """Note what is missing from the backend, contradicts something else in it, or cannot be used
    now.
    """
    path: Path = ("backend",)
    findings.need(path, draft, EXAMPLES)
    if draft is None:
        return
    given = [name for name in KINDS if getattr(draft, name) is not None]
    if len(given) > 1:
        findings.error(
            path,
            f"{'three' if len(given) == len(KINDS) else 'two'} backends are given",
            f"exactly one of {', '.join(KINDS)}",
        )
    elif not given and not any(findings.refused((*path, name)) for name in KINDS):
        findings.error(path, "no backend is given", f"exactly one of {EXAMPLES}")
    if draft.etcd is not None:
        _etcd((*path, "etcd"), draft.etcd, findings)
    if draft.kubernetes is not None:
        _kubernetes((*path, "kubernetes"), draft.kubernetes, findings)


def urls(draft: BackendDraft | None) -> Iterator[tuple[Path, str]]:
    """Yield where this backend connects to, as far as that can be known."""
    if draft and draft.etcd:
        for index, endpoint in enumerate(draft.etcd.endpoints or ()):
            yield ("backend", "etcd", "endpoints", index), endpoint or ""
    if draft and draft.kubernetes and draft.kubernetes.kubeconfig:
        yield ("backend", "kubernetes", "kubeconfig"), _server(draft.kubernetes)[0]


def must_be_file(path: Path, name: str | None, findings: Findings) -> None:
    """Refuse what is no file and will not become one: a directory, a named pipe, a device.

    One that is not there may come.
    """
    with contextlib.suppress(OSError):
        if name is not None and (what := no_file(name)):
            findings.error(path, f"{name} is {what}", "the name of a file")


def _etcd(path: Path, draft: EtcdDraft, findings: Findings) -> None:
    place = (*path, "endpoints")
    if not draft.endpoints:
        findings.need(place, None, "a list with at least one https://host:port or http://host:port")
    endpoints = [one for one in draft.endpoints or () if one is not None]
    findings.unique(
        [((*place, i), one) for i, one in enumerate(draft.endpoints or ())], "the endpoint"
    )
    before = len(findings.wrong)
    for key in ("ca_file", "cert_file", "key_file", "password_file"):
        must_be_file((*path, key), getattr(draft, key), findings)
    _together(path, draft, findings)
    if endpoints:
        _encryption(path, draft, endpoints, findings)
    if len(findings.wrong) == before:
        access = EtcdAccess(
            **{
                name: value
                for name, value in build.given(draft).items()
                if name not in {"endpoints", "prefix"}
            }
        )
        for flaw in etcd_access.flaws(access, tls=any(one.startswith(HTTPS) for one in endpoints)):
            findings.warn(path, f"{flaw}; vipd reads it again when it has changed")


def _together(path: Path, draft: EtcdDraft, findings: Findings) -> None:
    """Note half of a pair."""
    for one, other in (("cert_file", "key_file"), ("username", "password_file")):
        for given, missing in ((one, other), (other, one)):
            if getattr(draft, given) is not None:
                findings.need(
                    (*path, missing), getattr(draft, missing), f"it goes together with {given}"
                )


def _encryption(path: Path, draft: EtcdDraft, endpoints: list[str], findings: Findings) -> None:
    """Note where somebody might believe that a connection is encrypted and it is not."""
    plain = [one for one in endpoints if not one.startswith(HTTPS)]
    for key in ("ca_file", "cert_file"):
        if getattr(draft, key) is not None and len(plain) == len(endpoints):
            findings.error(
                (*path, key),
                "no endpoint begins with https, so it would not be used",
                "https://host:port as endpoints",
            )
    if plain and len(plain) < len(endpoints):
        findings.warn((*path, "endpoints"), f"without TLS: {', '.join(plain)}")
    if plain and draft.username is not None:
        findings.warn(
            (*path, "username"),
            f"the password would be sent without encryption to {', '.join(plain)}",
        )


def _kubernetes(path: Path, draft: KubernetesDraft, findings: Findings) -> None:
    if draft.context is not None and draft.kubeconfig is None:
        findings.need((*path, "kubeconfig"), None, "a context is chosen in a kubeconfig")
    must_be_file((*path, "kubeconfig"), draft.kubeconfig, findings)
    if (
        draft.kubeconfig is not None
        and not findings.refused((*path, "kubeconfig"))
        and (flaw := _server(draft)[1])
    ):
        findings.warn((*path, "kubeconfig"), f"{flaw}; vipd reads it again when it has changed")


def _server(draft: KubernetesDraft) -> tuple[str, str]:
    """Return the URL of the API server, and why it is not known; one of the two is empty."""
    from election.stores.kubernetes.kubeconfig import load  # noqa: PLC0415 - for this backend only

    try:
        return load(draft.kubeconfig or "", draft.context or "").server, ""
    except BadAccess as bad:
        return "", str(bad)
