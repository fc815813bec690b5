"""Who asks, and what they may.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/ (bearer tokens; client
certificates: CN is the user, O the groups; without either system:anonymous) and
https://kubernetes.io/docs/reference/access-authn-authz/rbac/ : Roles, ClusterRoles and their
bindings are objects like all others, and hold from the moment they are stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.kube.resources import Resource, Target, resource_of
from tests.kube.status import ApiError, Json, details_of, unauthorized
from tests.kube.storage import Key, Storage

SUPERUSERS = "system:masters"
RBAC = "rbac.authorization.k8s.io/v1"
ROLES = {kind: resource_of(RBAC, kind) for kind in ("Role", "ClusterRole")}
BINDINGS = resource_of(RBAC, "RoleBinding")
CLUSTER_BINDINGS = resource_of(RBAC, "ClusterRoleBinding")


@dataclass(frozen=True, slots=True)
class User:
    """Somebody."""

    name: str
    groups: tuple[str, ...] = ()

    def is_meant(self, subject: Json) -> bool:
        """Whether a subject of a binding is this user, or a group with it.

        …/rbac/#referring-to-subjects .
        """
        match subject["kind"]:
            case "User":
                return subject["name"] == self.name
            case "Group":
                return subject["name"] in self.groups
            case "ServiceAccount":
                return (
                    f"system:serviceaccount:{subject['namespace']}:{subject['name']}" == self.name
                )
        return False


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


def known(name: str, groups: Sequence[str] = ()) -> User:
    """Return a user who logged in."""
    return User(name, (*groups, "system:authenticated"))


@dataclass(frozen=True, slots=True)
class Rule:
    """One PolicyRule."""

    groups: tuple[str, ...]
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()

    def allows(self, verb: str, target: Target) -> bool:
        """Whether a request needs no further rule.

        A name in the rule fits no CREATE and no list: they name nothing.
        """
        return (
            _in(target.resource.group, self.groups)
            and _in(_path(target), self.resources)
            and _in(verb, self.verbs)
            and (not self.names or (target.name in self.names and verb != "create"))
        )


def _in(value: str, allowed: Sequence[str]) -> bool:
    return value in allowed or "*" in allowed


def _path(target: Target) -> str:
    return (
        f"{target.resource.plural}/{target.subresource}"
        if target.subresource
        else target.resource.plural
    )


def _rules_of(role: Json | None) -> Iterator[Rule]:
    entries = (role or {}).get("rules") or []
    assert isinstance(entries, list)
    for entry in entries:
        found = [
            tuple(entry.get(key) or ())
            for key in ("apiGroups", "resources", "verbs", "resourceNames")
        ]
        yield Rule(*found)


def forbidden(user: User, verb: str, target: Target) -> ApiError:
    """Return a 403 with the real server's sentence."""
    where = f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
    name = f' "{target.name}"' if target.name else ""
    text = (
        f'{target.resource.qualified}{name} is forbidden: User "{user.name}" cannot {verb} '
        f'resource "{_path(target)}"'
    )
    text += f' in API group "{target.resource.group}" {where}'
    return ApiError(403, "Forbidden", text, details_of(target.resource, target.name))


@dataclass(slots=True)
class Access:
    """Tokens with their users; their rules are in the storage.

    Members of system:masters may do all.
    """

    storage: Storage
    tokens: dict[str, User] = field(default_factory=dict)

    def user(self, authorization: str, certificate: Mapping[str, object] | None) -> User:
        """Return who asks; raises a 401 for a token that nobody has."""
        scheme, _, token = authorization.partition(" ")
        if authorization:
            if scheme.lower() != "bearer" or token not in self.tokens:
                raise unauthorized()
            return self.tokens[token]
        return _certified(certificate) if certificate else ANONYMOUS

    def check(self, user: User, verb: str, target: Target) -> None:
        """Raise a 403 with the real server's sentence, unless a rule allows the request."""
        if SUPERUSERS in user.groups or any(
            rule.allows(verb, target) for rule in self._rules(user, target.namespace)
        ):
            return
        raise forbidden(user, verb, target)

    def _rules(self, user: User, namespace: str) -> Iterator[Rule]:
        """Yield the rules that hold for a user in a namespace, or with none at
        the cluster scope.
        """
        yield from self._bound(user, CLUSTER_BINDINGS, "")
        if namespace:
            yield from self._bound(user, BINDINGS, namespace)

    def _bound(self, user: User, bindings: Resource, namespace: str) -> Iterator[Rule]:
        for _, binding in self.storage.objects(bindings, namespace):
            subjects, role = binding.get("subjects") or [], binding["roleRef"]
            assert isinstance(subjects, list)
            assert isinstance(role, dict)
            if any(user.is_meant(subject) for subject in subjects):
                resource = ROLES[role["kind"]]
                key = Key(
                    resource.qualified, namespace if resource.namespaced else "", role["name"]
                )
                yield from _rules_of(self.storage.get(key))


def _certified(certificate: Mapping[str, object]) -> User:
    subject = certificate["subject"]
    assert isinstance(subject, tuple)
    parts = [pair for part in subject for pair in part]
    names = [value for key, value in parts if key == "commonName"]
    return known(
        names[0] if names else "", [value for key, value in parts if key == "organizationName"]
    )
