"""Who asks, and what they may.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/ (bearer tokens; client certificates: CN is the user, O the
groups; without either system:anonymous) and https://kubernetes.io/docs/reference/access-authn-authz/rbac/ .
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.kube.resources import Target
from tests.kube.status import ApiError, details_of, unauthorized

SUPERUSERS = "system:masters"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody."""

    name: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One PolicyRule of a Role (with its namespace) or a ClusterRole (without)."""

    groups: tuple[str, ...]
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()
    namespace: str = ""

    def allows(self, verb: str, target: Target) -> bool:
        """Whether a request needs no further rule. A name in the rule fits no CREATE and no list: they name nothing."""
        resource = f"{target.resource.plural}/{target.subresource}" if target.subresource else target.resource.plural
        return (
            _in(target.resource.group, self.groups)
            and _in(resource, self.resources)
            and _in(verb, self.verbs)
            and (not self.names or (target.name in self.names and verb != "create"))
            and self.namespace in ("", target.namespace)
        )


def _in(value: str, allowed: Sequence[str]) -> bool:
    return value in allowed or "*" in allowed


def rule_of(entry: Mapping[str, object], namespace: str) -> Rule:
    """Return a rule as it stands in a manifest."""

    def texts(key: str) -> tuple[str, ...]:
        value = entry.get(key) or []
        assert isinstance(value, list)
        return tuple(value)

    return Rule(texts("apiGroups"), texts("resources"), texts("verbs"), texts("resourceNames"), namespace)


@dataclass(slots=True)
class Access:
    """Tokens with their users, and users with their rules. Members of system:masters may do all."""

    tokens: dict[str, User] = field(default_factory=dict)
    rules: dict[str, list[Rule]] = field(default_factory=dict)

    def user(self, authorization: str, certificate: Mapping[str, object] | None) -> User:
        """Return who asks; raises a 401 for a token that nobody has."""
        scheme, _, token = authorization.partition(" ")
        if authorization:
            if scheme.lower() != "bearer" or token not in self.tokens:
                raise unauthorized()
            return self.tokens[token]
        return _certified(certificate) if certificate else User("system:anonymous", ("system:unauthenticated",))

    def check(self, user: User, verb: str, target: Target) -> None:
        """Raise a 403 with the real server's sentence, unless a rule allows the request."""
        if SUPERUSERS in user.groups or any(rule.allows(verb, target) for rule in self.rules.get(user.name, ())):
            return
        resource = f"{target.resource.plural}/{target.subresource}" if target.subresource else target.resource.plural
        where = f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
        name = f' "{target.name}"' if target.name else ""
        text = f'{target.resource.qualified}{name} is forbidden: User "{user.name}" cannot {verb} resource "{resource}"'
        text += f' in API group "{target.resource.group}" {where}'
        raise ApiError(403, "Forbidden", text, details_of(target.resource, target.name))


def _certified(certificate: Mapping[str, object]) -> User:
    subject = certificate["subject"]
    assert isinstance(subject, tuple)
    parts = [pair for part in subject for pair in part]
    names = [value for key, value in parts if key == "commonName"]
    return User(names[0] if names else "", tuple(value for key, value in parts if key == "organizationName"))
