"""Which resources the server has, and how they differ. A further one is a further row.

API groups and verbs: https://kubernetes.io/docs/reference/kubernetes-api/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Resource:
    """One row.

    `create_on_update`: a PUT of an absent object creates it; `unconditional_update`: a PUT without
    a resourceVersion replaces whatever is there. Both are a resource's own choice; Leases chose the
    unusual (pkg/registry/coordination/lease in the sources of Kubernetes: true and false).
    `generation`: counts changes outside metadata and status. `graceful`: a DELETE leaves the object
    with a deletionTimestamp until the grace period is over (pods). `merge_keys`: by which key the
    items of a list are told apart in a strategic merge patch and in managedFields; a list that is
    not named is replaced as a whole.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    status: bool = False
    create_on_update: bool = False
    unconditional_update: bool = True
    generation: bool = False
    graceful: bool = False
    merge_keys: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def api_version(self) -> str:
        """What objects say in `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """How messages name the resource."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


CONDITIONS = {"conditions": "type"}

LEASES = Resource(
    "coordination.k8s.io",
    "v1",
    "leases",
    "Lease",
    create_on_update=True,
    unconditional_update=False,
)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False, status=True)
RESOURCES = (
    LEASES,
    NAMESPACES,
    Resource(
        "",
        "v1",
        "nodes",
        "Node",
        namespaced=False,
        status=True,
        merge_keys={**CONDITIONS, "addresses": "type"},
    ),
    Resource(
        "",
        "v1",
        "pods",
        "Pod",
        status=True,
        graceful=True,
        merge_keys={
            **CONDITIONS,
            "containers": "name",
            "env": "name",
            "volumes": "name",
            "podIPs": "ip",
        },
    ),
    Resource(
        "", "v1", "services", "Service", status=True, merge_keys={**CONDITIONS, "ports": "port"}
    ),
    Resource("", "v1", "events", "Event", create_on_update=True),
    Resource("", "v1", "configmaps", "ConfigMap"),
    Resource("", "v1", "serviceaccounts", "ServiceAccount"),
    Resource("rbac.authorization.k8s.io", "v1", "roles", "Role"),
    Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
    Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False),
    Resource(
        "rbac.authorization.k8s.io",
        "v1",
        "clusterrolebindings",
        "ClusterRoleBinding",
        namespaced=False,
    ),
    Resource("events.k8s.io", "v1", "events", "Event", create_on_update=True),
    Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", generation=True),
    Resource(
        "apps",
        "v1",
        "daemonsets",
        "DaemonSet",
        status=True,
        generation=True,
        merge_keys={
            "containers": "name",
            "env": "name",
            "volumes": "name",
            "volumeMounts": "mountPath",
        },
    ),
    Resource("networking.k8s.io", "v1", "ingresses", "Ingress", status=True, generation=True),
    Resource(
        "networking.k8s.io",
        "v1",
        "ingressclasses",
        "IngressClass",
        namespaced=False,
        generation=True,
    ),
)
OWNERS = {"ownerReferences": "uid"}
"""The one list of metadata whose items have a key."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names.

    Https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris .
    """

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def target_of(path: str) -> Target | None:
    """Return what a path names; None: nothing that this server has."""
    parts = path.strip("/").split("/")
    match parts:
        case ["api", version, *rest]:
            group = ""
        case ["apis", group, version, *rest]:
            pass
        case _:
            return None
    namespace = ""
    if (
        len(rest) > 2
        and rest[0] == "namespaces"
        and _find(group, version, rest[2], namespaced=True)
    ):
        namespace, rest = rest[1], rest[2:]
    found = _find(group, version, rest[0] if rest else "")
    if found is None or len(rest) > 3 or (namespace and not found.namespaced):
        return None
    name, subresource = [*rest[1:], "", ""][:2]
    if subresource and not (subresource == "status" and found.status):
        return None
    if name and found.namespaced and not namespace:
        return None
    return Target(found, namespace, name, subresource)


def resource_of(api_version: str, kind: str) -> Resource:
    """Return the resource of an object.

    Raises StopIteration for one that this server does not have.
    """
    return next(row for row in RESOURCES if (row.api_version, row.kind) == (api_version, kind))


def path_of(resource: Resource, namespace: str = "") -> str:
    """Return the path of a collection.

    Https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris .
    """
    start = f"/apis/{resource.api_version}" if resource.group else f"/api/{resource.version}"
    return (
        f"{start}/namespaces/{namespace}/{resource.plural}"
        if resource.namespaced
        else f"{start}/{resource.plural}"
    )


def _find(group: str, version: str, plural: str, *, namespaced: bool = False) -> Resource | None:
    for row in RESOURCES:
        if (row.group, row.version, row.plural) == (group, version, plural) and (
            row.namespaced or not namespaced
        ):
            return row
    return None
