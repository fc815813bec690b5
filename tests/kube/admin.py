"""A person with kubectl: plain requests with the rights of an administrator, one connection each."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

from tests.kube.fixture import Cluster
from tests.kube.status import Json

LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"


class Admin:
    """Asks the API server of a cluster. `token` logs in; without one it is nobody."""

    def __init__(self, cluster: Cluster, token: str) -> None:
        self._cluster = cluster
        self._token = token
        self._tls = ssl.create_default_context(cafile=cluster.authority.file)

    def ask(
        self, method: str, path: str, body: object = None, query: dict[str, str] | None = None, content: str = "application/json"
    ) -> tuple[int, Json]:
        """Return the code and the body of an answer."""
        code, _, answer = self.full(method, path, body, query, content)
        return code, answer

    def full(
        self, method: str, path: str, body: object = None, query: dict[str, str] | None = None, content: str = "application/json"
    ) -> tuple[int, dict[str, str], Json]:
        """Return the code, the headers and the body of an answer."""
        at = urlsplit(self._cluster.url)
        assert at.hostname is not None
        connection = http.client.HTTPSConnection(at.hostname, at.port, context=self._tls, timeout=10)
        headers = {"Content-Type": content, "User-Agent": "admin/1"}
        headers |= {"Authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            connection.request(method, f"{path}?{urlencode(query)}" if query else path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), json.loads(answer.read())
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
