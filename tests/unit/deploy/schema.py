"""What Kubernetes says of an object's shape.

The models of the kubernetes package are made from its OpenAPI document.

https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation : what a strict server
refuses is a finding here too
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from kubernetes.client import models
from pydantic import BaseModel, ValidationError

CONTAINER = re.compile(r"(List|Dict)\[(?:str, )?(.+)\]")


def findings(thing: Mapping[str, object]) -> list[str]:
    """Return what is wrong with an object: unknown fields, missing ones, wrong types."""
    kind = f"V1{thing['kind']}"
    return [*_unknown(thing, kind, str(thing["kind"])), *_invalid(thing, kind)]


def _model(name: str) -> type[BaseModel] | None:
    found = getattr(models, name, None)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _invalid(thing: Mapping[str, object], kind: str) -> Iterator[str]:
    model = _model(kind)
    assert model is not None, f"{kind} is no kind of Kubernetes"
    try:
        model.model_validate(thing)
    except ValidationError as error:
        for one in error.errors():
            yield f"{'.'.join(map(str, one['loc']))}: {one['msg']}"


def _unknown(value: object, kind: str, path: str) -> Iterator[str]:
    """Yield every field that its type does not have.

    A server that is not asked to be strict would drop it without a word.
    """
    if match := CONTAINER.fullmatch(kind):
        items = (
            value.items()
            if isinstance(value, dict)
            else enumerate(value)
            if isinstance(value, list)
            else ()
        )
        for key, item in items:
            yield from _unknown(item, match[2], f"{path}[{key}]")
        return
    model = _model(kind)
    if model is None or not isinstance(value, Mapping):
        return
    names: Mapping[str, str] = getattr(model, "attribute_map")  # noqa: B009 - the generated classes declare it, BaseModel does not
    types: Mapping[str, str] = getattr(model, "openapi_types")  # noqa: B009 - likewise
    known = {shown: types[name] for name, shown in names.items()}
    for key, item in value.items():
        if key not in known:
            yield f"{path}.{key}: no such field in {kind}"
        else:
            yield from _unknown(item, known[key], f"{path}.{key}")
