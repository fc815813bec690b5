"""The manifests of deploy/manifests, and who they let vipd be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.kube.admin import Admin
from tests.kube.status import Json

FOLDER = Path(__file__).parents[2] / "deploy" / "manifests"
NAMESPACE = "vipd-system"
USER = f"system:serviceaccount:{NAMESPACE}:vipd"
"""https://kubernetes.io/docs/reference/access-authn-authz/authentication/#service-account-tokens
."""


def read(folder: Path = FOLDER) -> Iterator[tuple[str, Json]]:
    """Yield the file name and the content of each object, in the order in which kubectl applies a
    folder.
    """
    for path in sorted(folder.glob("*.yaml")):
        for thing in yaml.safe_load_all(path.read_text()):
            yield path.name, thing


def one(kind: str, folder: Path = FOLDER) -> Json:
    """Return the only object of a kind."""
    [found] = [thing for _, thing in read(folder) if thing["kind"] == kind]
    return found


def apply_access(admin: Admin) -> None:
    """Apply the namespace and the rights of vipd in it."""
    for kind in ("Namespace", "ServiceAccount", "Role", "RoleBinding"):
        admin.apply(one(kind))
