"""Answers that are not objects: metav1.Status.

Fields, reasons and codes:
https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.kube.resources import Resource

Json = dict[str, object]
"""A JSON object."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One of several things that are wrong; `field` is a path like `spec.leaseDurationSeconds`."""

    reason: str
    message: str
    field: str = ""


class ApiError(Exception):
    """A request that the server does not carry out; becomes a Status.

    `retry_after`: whole seconds, 0 for none.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Json | None = None,
        retry_after: int = 0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = dict(details or {})
        self.retry_after = retry_after

    def status(self) -> Json:
        """Return the body of the answer."""
        details = dict(self.details)
        if self.retry_after:
            details["retryAfterSeconds"] = self.retry_after
        body: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        body |= {"message": self.message, "reason": self.reason, "code": self.code}
        return body | ({"details": details} if details else {})


def success(resource: Resource, name: str, uid: str) -> Json:
    """Return what a DELETE answers that removed an object at once."""
    details: Json = {"name": name, "group": resource.group, "kind": resource.plural, "uid": uid}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }


def details_of(resource: Resource, name: str, causes: Sequence[Cause] = (), kind: str = "") -> Json:
    """Return the details of a Status about one object.

    Their kind is the plural, except where something is invalid.
    """
    found: Json = {"name": name, "group": resource.group, "kind": kind or resource.plural}
    if causes:
        found["causes"] = [
            {"reason": c.reason, "message": c.message, **({"field": c.field} if c.field else {})}
            for c in causes
        ]
    return found


def bad_request(message: str) -> ApiError:
    """Return a 400."""
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    """Return the 401 that says nothing more."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def not_found(resource: Resource, name: str) -> ApiError:
    """Return a 404 about an object."""
    return ApiError(
        404, "NotFound", f'{resource.qualified} "{name}" not found', details_of(resource, name)
    )


def already_exists(resource: Resource, name: str) -> ApiError:
    """Return the 409 of a CREATE."""
    return ApiError(
        409,
        "AlreadyExists",
        f'{resource.qualified} "{name}" already exists',
        details_of(resource, name),
    )


def conflict(resource: Resource, name: str, why: str = "") -> ApiError:
    """Return the 409 of a compare-and-swap."""
    why = (
        why
        or "the object has been modified; please apply your changes to the latest version and try "
        "again"
    )
    text = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return ApiError(409, "Conflict", text, details_of(resource, name))


def precondition_failed(
    resource: Resource, name: str, what: str, wanted: str, found: str
) -> ApiError:
    """Return the 409 of a uid or resourceVersion that was demanded and is another."""
    return conflict(
        resource,
        name,
        f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}",
    )


def invalid(resource: Resource, name: str, causes: Sequence[Cause]) -> ApiError:
    """Return a 422 with all that is wrong."""
    told = [f"{cause.field}: {cause.message}" for cause in causes]
    text = f'{resource.kind}.{resource.group} "{name}" is invalid: ' + (
        told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    )
    return ApiError(422, "Invalid", text, details_of(resource, name, causes, resource.kind))


def bad_options(field: str, message: str, kind: str = "ListOptions") -> ApiError:
    """Return the 422 of query parameters that are missing, or contradict each other.

    https://kubernetes.io/docs/reference/using-api/api-concepts/
    """
    reason = "FieldValueRequired" if message.startswith("Required") else "FieldValueForbidden"
    causes = [{"reason": reason, "message": message, "field": field}]
    details: Json = {"group": "meta.k8s.io", "kind": kind, "causes": causes}
    return ApiError(
        422, "Invalid", f'{kind}.meta.k8s.io "" is invalid: {field}: {message}', details
    )


def expired(message: str = "The resourceVersion for the provided watch is too old.") -> ApiError:
    """Return a 410: https://kubernetes.io/docs/reference/using-api/api-concepts/#410-gone-responses
    .
    """
    return ApiError(410, "Expired", message)


def too_large_version(asked: int, current: int) -> ApiError:
    """Return the 504 of a version from the future.

    https://kubernetes.io/docs/reference/using-api/api-concepts/#unavailable-resource-versions
    """
    details: Json = {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    }
    return ApiError(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {asked}, current: {current}",
        details,
        retry_after=1,
    )
