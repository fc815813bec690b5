"""Label and field selectors.

Https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#api and …/field-selectors/
.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.kube.status import Json, bad_request

Matches = Callable[[Json], bool]
SET = re.compile(r"\s*([^\s!=,()]+)\s+(in|notin)\s+\(([^()]*)\)\s*")
EQUAL = re.compile(r"\s*([^\s!=,()]+)\s*(==|=|!=)\s*([^\s!=,()]*)\s*")
EXISTS = re.compile(r"\s*(!?)\s*([^\s!=,()]+)\s*")


def selector(labels: str, fields: str) -> Matches:
    """Return whether an object is selected; raises a 400 for what cannot be understood."""
    label_terms = [_label_term(term) for term in _split(labels)]
    field_terms = [_field_term(term) for term in _split(fields)]
    return lambda thing: (
        all(term(_labels(thing)) for term in label_terms)
        and all(term(thing) for term in field_terms)
    )


def _split(text: str) -> list[str]:
    return [term for term in re.split(r",(?![^()]*\))", text) if term.strip()]


def _labels(thing: Json) -> Json:
    metadata = thing["metadata"]
    assert isinstance(metadata, dict)
    return metadata.get("labels") or {}


def _label_term(term: str) -> Matches:
    if match := SET.fullmatch(term):
        key, wanted = match[1], {value.strip() for value in match[3].split(",")}
        if match[2] == "in":
            return lambda labels: labels.get(key) in wanted
        return lambda labels: labels.get(key) not in wanted
    if match := EQUAL.fullmatch(term):
        key, value, differs = match[1], match[3], match[2] == "!="
        return lambda labels: (labels.get(key) == value) is not differs
    if match := EXISTS.fullmatch(term):
        key, absent = match[2], bool(match[1])
        return lambda labels: (key in labels) is not absent
    raise bad_request(f'unable to parse requirement: "{term}"')


def _field_term(term: str) -> Matches:
    match = EQUAL.fullmatch(term)
    if match is None:
        raise bad_request(f"invalid field selector: {term}")
    path, value, differs = match[1].split("."), match[3], match[2] == "!="

    def selected(thing: Json) -> bool:
        found: object = thing
        for part in path:
            found = found.get(part) if isinstance(found, dict) else None
        return (str(found or "") == value) is not differs

    return selected
