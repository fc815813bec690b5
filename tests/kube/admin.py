"""A person with kubectl.

Plain requests with the rights of an administrator, one connection each.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

from tests.kube.certificates import Certificate
from tests.kube.fixture import Cluster
from tests.kube.resources import path_of, resource_of
from tests.kube.status import Json

LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"


class Admin:
    """Asks the API server of a cluster.

    `token` or `certificate` logs in; without any it is nobody.
    """

    def __init__(
        self, cluster: Cluster, token: str, certificate: Certificate | None = None
    ) -> None:
        self._cluster = cluster
        self._token = token
        self._tls = ssl.create_default_context(cafile=cluster.authority.file)
        if certificate is not None:
            self._tls.load_cert_chain(certificate.cert, certificate.key)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        query: dict[str, str] | None = None,
        content: str = "application/json",
    ) -> tuple[int, Json]:
        """Return the code and the body of an answer."""
        code, _, answer = self.full(method, path, body, query, content)
        return code, answer

    def full(
        self,
        method: str,
        path: str,
        body: object = None,
        query: dict[str, str] | None = None,
        content: str = "application/json",
    ) -> tuple[int, dict[str, str], Json]:
        """Return the code, the headers and the body of an answer."""
        at = urlsplit(self._cluster.url)
        assert at.hostname is not None
        connection = http.client.HTTPSConnection(
            at.hostname, at.port, context=self._tls, timeout=10
        )
        headers = {"Content-Type": content, "User-Agent": "admin/1"}
        headers |= {"Authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            connection.request(
                method,
                f"{path}?{urlencode(query)}" if query else path,
                None if body is None else json.dumps(body),
                headers,
            )
            answer = connection.getresponse()
            data = answer.read()
            # A path that no API has is answered with a plain text.
            told = json.loads(data) if data.startswith(b"{") else {"message": data.decode()}
            return answer.status, dict(answer.getheaders()), told
        finally:
            connection.close()

    def lease(self, namespace: str, name: str) -> Json:
        """Return a Lease, which must be there."""
        code, lease = self.ask("GET", f"{LEASES.format(namespace)}/{name}")
        assert code == 200, lease
        return lease

    def edit(self, namespace: str, name: str, change: Callable[[Json], object]) -> Json:
        """Change a Lease as `kubectl edit` does."""
        lease = self.lease(namespace, name)
        change(lease)
        code, answer = self.ask("PUT", f"{LEASES.format(namespace)}/{name}", lease)
        assert code == 200, answer
        return answer

    def delete(self, namespace: str, name: str) -> None:
        """Delete a Lease, which must be there."""
        code, answer = self.ask("DELETE", f"{LEASES.format(namespace)}/{name}")
        assert code == 200, answer

    def apply(self, thing: Json) -> Json:
        """Make an object, which must not be there, in the namespace that it names."""
        metadata = thing["metadata"]
        assert isinstance(metadata, dict)
        resource = resource_of(str(thing["apiVersion"]), str(thing["kind"]))
        code, answer = self.ask(
            "POST", path_of(resource, str(metadata.get("namespace", ""))), thing
        )
        assert code == 201, answer
        return answer

    def grant(self, namespace: str, user: str, rules: list[Json]) -> None:
        """Give a user the rules of a Role. A real server needs a moment to know of it."""
        group, about = "rbac.authorization.k8s.io", {"name": user, "namespace": namespace}
        self.apply({"apiVersion": f"{group}/v1", "kind": "Role", "metadata": about, "rules": rules})
        subject, role = (
            {"kind": "User", "name": user, "apiGroup": group},
            {"kind": "Role", "name": user, "apiGroup": group},
        )
        self.apply(
            {
                "apiVersion": f"{group}/v1",
                "kind": "RoleBinding",
                "metadata": about,
                "subjects": [subject],
                "roleRef": role,
            }
        )
