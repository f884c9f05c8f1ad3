"""The definitions of deploy/crds as values, and what a schema says an object looks like."""

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import yaml

from lab.topology import REPOSITORY

Schema = dict[str, Any]
TYPES: Final = {dict: "object", list: "array", str: "string", int: "integer", float: "number", bool: "boolean"}
CRDS = REPOSITORY / "deploy" / "crds"


@cache
def definitions() -> dict[str, Schema]:
    """By file name."""
    return {path.name: yaml.load(path.read_text("utf-8"), yaml.CSafeLoader) for path in sorted(CRDS.glob("*.yaml"))}


@cache
def schemas() -> dict[tuple[str, str], Schema]:
    """By apiVersion and kind."""
    return {
        (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]): version["schema"][
            "openAPIV3Schema"
        ]
        for crd in definitions().values()
        for version in crd["spec"]["versions"]
    }


def part(schema: Schema, path: str) -> Schema | None:
    """The schema at a dotted path, items of lists taken for the lists; None where there is none."""
    for name in path.split("."):
        schema = schema.get("items", schema)
        found = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
        if found is None:
            return None
        schema = found
    return schema


def leaves(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every field below, those of list items included, parents before their children."""
    for name, field in schema.get("items", schema).get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield here, field
        yield from leaves(field, here)


def sample(schema: Schema) -> Any:
    """A value with every field of the schema in it; whether they go together is not asked."""
    match schema["type"]:
        case "object" if "additionalProperties" in schema:
            return {"key": sample(schema["additionalProperties"])}
        case "object":
            return {name: sample(field) for name, field in schema.get("properties", {}).items()}
        case "array":
            return [sample(schema["items"])]
        case "string":
            return schema.get("example") or (schema.get("enum") or ["text"])[0]
        case "integer":
            return max(1, schema.get("minimum", 1))
        case _:
            return True


def strange_to(value: Any, schema: Schema) -> list[str]:
    """Where `value` has a field that the schema lacks, or one of another type: what the API server drops or refuses."""
    kind = schema["type"]
    if TYPES[type(value)] != kind:
        return [f" is no {kind}: {value!r}"]
    if isinstance(value, list):
        return [f"[]{text}" for item in value for text in strange_to(item, schema["items"])]
    if not isinstance(value, dict):
        return [] if value in schema.get("enum", [value]) else [f" is not in the enum: {value!r}"]
    known = schema.get("properties", {})
    found = [f".{name} is not in the schema" for name in value if name not in known]
    return found + [f".{n}{text}" for n in value if n in known for text in strange_to(value[n], known[n])]
