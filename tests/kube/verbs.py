"""The verbs that change or return one object.

What a request does to the storage, in the order of the real server.

https://kubernetes.io/docs/reference/using-api/api-concepts/ ; where a page is silent, the generic
registry in the sources of Kubernetes (staging/src/k8s.io/apiserver/pkg/registry) tells the order of
checks.
"""

from __future__ import annotations

import datetime as dt
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from tests.kube import fields, patching, status
from tests.kube.resources import NAMESPACES, Target
from tests.kube.status import ApiError, Cause, Json
from tests.kube.storage import Key, Storage
from tests.kube.validation import decoded, problems

SYSTEM = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "generation",
    "selfLink",
)
"""Fields of metadata that a client may send and that the server alone decides."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a request asks of one object.

    `manager` is the field manager; `dry`: all but storing it.
    """

    target: Target
    query: Mapping[str, str]
    manager: str
    body: object = None

    @property
    def dry(self) -> bool:
        """Whether nothing is stored.

        Https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run .
        """
        return self.query.get("dryRun") == "All"

    @property
    def key(self) -> Key:
        """The object."""
        return Key(self.target.resource.qualified, self.target.namespace, self.target.name)


def now() -> str:
    """Return a metav1.Time: whole seconds."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: TID251 - a server stamps with the wall clock


def metadata_of(thing: Json) -> Json:
    """Return the metadata of an object."""
    metadata = thing["metadata"]
    assert isinstance(metadata, dict)
    return metadata


def get(storage: Storage, call: Call) -> Json:
    """Return the object as it is now."""
    found = storage.get(call.key)
    if found is None:
        raise status.not_found(call.target.resource, call.target.name)
    return found


def create(storage: Storage, call: Call) -> Json:
    """Store a new object; 409 if the name is taken."""
    resource, namespace = call.target.resource, call.target.namespace
    thing = decoded(resource, call.body)
    metadata = dict(metadata_of(thing))
    if metadata.get("resourceVersion"):
        raise ApiError(500, "", "resourceVersion should not be set on objects to be created")
    _check_namespace(storage, namespace, metadata, resource.namespaced)
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = f"{metadata['generateName']}{secrets.token_hex(3)[:5]}"
    if call.target.name and metadata.get("name") != call.target.name:
        raise status.bad_request(
            f"the name of the object ({metadata.get('name')}) does not match the name on the URL "
            f"({call.target.name})"
        )
    key = Key(resource.qualified, namespace, str(metadata.get("name") or ""))
    fresh = {name: value for name, value in metadata.items() if name not in SYSTEM}
    fresh |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
    fresh |= {"namespace": namespace} if namespace else {}
    fresh |= {"generation": 1} if resource.generation else {}
    thing = {
        key: value for key, value in thing.items() if key != "status" or not resource.status
    } | {"metadata": fresh}
    if causes := _named(key.name) + problems(resource, thing):
        raise status.invalid(resource, key.name, causes)
    if storage.get(key) is not None:
        raise status.already_exists(resource, key.name)
    managers = fields.updated(resource, None, thing, fields.Manager(call.manager, "Update"))
    return _stored(storage, call, key, thing, managers)


def update(storage: Storage, call: Call) -> Json:
    """Replace an object.

    A compare-and-swap on its resourceVersion, and on its uid if the body has one.
    """
    resource, name = call.target.resource, call.target.name
    thing = decoded(resource, call.body)
    metadata = metadata_of(thing)
    if metadata.get("name") != name:
        raise status.bad_request(
            f"the name of the object ({metadata.get('name')}) does not match the name on the URL "
            f"({name})"
        )
    before = storage.get(call.key)
    if uid := metadata.get("uid"):
        found = str(metadata_of(before)["uid"]) if before else ""
        if uid != found:
            raise status.precondition_failed(resource, name, "UID", str(uid), found)
    if before is None:
        if not resource.create_on_update or call.target.subresource:
            raise status.not_found(resource, name)
        plain = {key: value for key, value in metadata.items() if key != "resourceVersion"}
        return create(
            storage, Call(call.target, call.query, call.manager, {**thing, "metadata": plain})
        )
    version = metadata.get("resourceVersion")
    if not version and not resource.unconditional_update:
        raise status.invalid(
            resource,
            name,
            [
                Cause(
                    "FieldValueInvalid",
                    "Invalid value: 0: must be specified for an update",
                    "metadata.resourceVersion",
                )
            ],
        )
    if version and version != metadata_of(before)["resourceVersion"]:
        raise status.conflict(resource, name)
    who = fields.Manager(call.manager, "Update", call.target.subresource)
    after = _combined(call, before, thing)
    return _replace(storage, call, before, after, fields.updated(resource, before, after, who))


def patch(storage: Storage, call: Call, kind: str) -> Json:
    """Change parts of an object; a resourceVersion or uid in the patch is a precondition."""
    resource, name = call.target.resource, call.target.name
    if kind == patching.APPLY:
        return _apply(storage, call)
    before = get(storage, call)
    changed = decoded(resource, patching.patched(resource, kind, before, call.body))
    metadata, old = metadata_of(changed), metadata_of(before)
    if metadata.get("uid") != old["uid"]:
        raise status.precondition_failed(
            resource, name, "UID", str(metadata.get("uid")), str(old["uid"])
        )
    if metadata.get("resourceVersion") != old["resourceVersion"]:
        raise status.conflict(resource, name)
    who = fields.Manager(call.manager, "Update", call.target.subresource)
    after = _combined(call, before, changed)
    return _replace(storage, call, before, after, fields.updated(resource, before, after, who))


def delete(storage: Storage, call: Call) -> Json:
    """Remove an object, or mark it as on its way if finalizers or a grace period keep it."""
    resource, name = call.target.resource, call.target.name
    before = get(storage, call)
    metadata = metadata_of(before)
    options = call.body if isinstance(call.body, dict) else {}
    for key, what in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        wanted = (options.get("preconditions") or {}).get(key)
        if wanted is not None and wanted != metadata[key]:
            raise status.precondition_failed(resource, name, what, wanted, str(metadata[key]))
    grace = (
        options.get("gracePeriodSeconds", 30)
        if resource.graceful and (before.get("spec") or {}).get("nodeName")  # type: ignore[attr-defined]
        else 0
    )
    if call.dry:
        return before
    if metadata.get("finalizers") or grace:
        marks = {
            "deletionTimestamp": metadata.get("deletionTimestamp") or now(),
            "deletionGracePeriodSeconds": grace,
        }
        marked = {**before, "metadata": {**metadata, **marks}}
        return _replace(storage, call, before, marked, fields.managers_of(before))
    remove(storage, call.key)
    return status.success(resource, name, str(metadata["uid"]))


def remove(storage: Storage, key: Key) -> None:
    """Remove an object, and what it alone owned.

    Https://kubernetes.io/docs/concepts/architecture/garbage-collection/ .
    """
    change = storage.remove(key)
    assert change.before is not None
    gone = metadata_of(change.before)["uid"]
    there = {metadata_of(thing)["uid"] for _, thing in storage.everything()}
    for other, thing in storage.everything():
        owners = metadata_of(thing).get("ownerReferences") or []
        assert isinstance(owners, list)
        uids = {owner["uid"] for owner in owners}
        if gone in uids and not uids & there and storage.get(other) is not None:
            remove(storage, other)


def _check_namespace(storage: Storage, namespace: str, metadata: Json, namespaced: bool) -> None:
    if not namespaced:
        return
    if metadata.get("namespace", namespace) != namespace:
        raise status.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if storage.get(Key(NAMESPACES.qualified, "", namespace)) is None:
        raise status.not_found(NAMESPACES, namespace)


def _named(name: str) -> list[Cause]:
    return (
        []
        if name
        else [
            Cause(
                "FieldValueRequired",
                "Required value: name or generateName is required",
                "metadata.name",
            )
        ]
    )


def _combined(call: Call, before: Json, sent: Json) -> Json:
    """Return what is stored.

    The server's own fields stay, and status changes through its subresource only, and only there.

    https://kubernetes.io/docs/reference/using-api/api-concepts/#… status:
    /docs/concepts/overview/working-with-objects/
    """
    resource, old = call.target.resource, metadata_of(before)
    if call.target.subresource:
        base = {**before, "status": sent.get("status") or {}}
        metadata = {**old, "managedFields": None}
    else:
        base = {key: value for key, value in sent.items() if key != "status" or not resource.status}
        base |= {"status": before["status"]} if resource.status and "status" in before else {}
        metadata = {key: value for key, value in metadata_of(sent).items() if key not in SYSTEM}
        metadata |= {key: old[key] for key in SYSTEM if key in old}
        metadata |= {"namespace": call.target.namespace} if call.target.namespace else {}
        if resource.generation and _outside(base) != _outside(before):
            metadata["generation"] = int(str(old.get("generation", 1))) + 1
    return {**base, "metadata": metadata}


def _outside(thing: Json) -> Json:
    return {key: value for key, value in thing.items() if key not in {"metadata", "status"}}


def _replace(
    storage: Storage, call: Call, before: Json, after: Json, managers: fields.Managers
) -> Json:
    resource, after = call.target.resource, defaulted(after)
    if causes := problems(resource, after):
        raise status.invalid(resource, call.target.name, causes)
    if _plain(before) == _plain(after):
        # A write that changes nothing is no change: it gets the old version, and no watch hears of
        # it.
        return before
    metadata = metadata_of(after)
    if (
        metadata.get("deletionTimestamp")
        and not metadata.get("finalizers")
        and not metadata.get("deletionGracePeriodSeconds")
    ):
        remove(storage, call.key)
        return after
    return _stored(storage, call, call.key, after, managers)


def defaulted(thing: Json) -> Json:
    """Return an object as it is stored: what clients left out is filled in where the type says so.

    Only what matters to who applies the same object twice: a value inside a map that is one value
    as a whole.
    https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-field-selector/
    """

    def fill(name: str, value: object) -> object:
        if isinstance(value, dict):
            inner = {key: fill(key, item) for key, item in value.items()}
            return {"apiVersion": "v1", **inner} if name == "fieldRef" else inner
        return [fill("", item) for item in value] if isinstance(value, list) else value

    filled = fill("", thing)
    assert isinstance(filled, dict)
    return filled


def _plain(thing: Json) -> Json:
    bare = {
        key: value
        for key, value in metadata_of(thing).items()
        if key not in {"managedFields", "resourceVersion"} and value
    }
    return {**thing, "metadata": bare}


def _stored(storage: Storage, call: Call, key: Key, thing: Json, managers: fields.Managers) -> Json:
    entries, thing = fields.entries(call.target.resource, managers, now()), defaulted(thing)

    def at(version: str) -> Json:
        return {
            **thing,
            "metadata": {
                **metadata_of(thing),
                "resourceVersion": version,
                "managedFields": entries,
            },
        }

    return at(str(storage.version)) if call.dry else storage.put(key, at)


def _apply(storage: Storage, call: Call) -> Json:
    resource, name = call.target.resource, call.target.name
    if not call.query.get("fieldManager"):
        raise status.bad_options(
            "fieldManager", "Required value: is required for apply patch", "PatchOptions"
        )
    config = decoded(resource, call.body)
    if metadata_of(config).get("managedFields"):
        raise status.bad_request("metadata.managedFields must be nil")
    before = storage.get(call.key)
    who = fields.Manager(call.manager, "Apply", call.target.subresource)
    named = {**config, "metadata": {**metadata_of(config), "name": name}}
    after, managers = fields.applied(
        resource, before, named, who, force=call.query.get("force") == "true"
    )
    if before is None:
        metadata = {**metadata_of(after), "name": name}
        made = create(
            storage, Call(call.target, call.query, call.manager, {**after, "metadata": metadata})
        )
        return made if call.dry else _stored(storage, call, call.key, made, managers)
    version = metadata_of(config).get("resourceVersion")
    if version and version != metadata_of(before)["resourceVersion"]:
        raise status.conflict(resource, name)
    return _replace(storage, call, before, _combined(call, before, after), managers)
