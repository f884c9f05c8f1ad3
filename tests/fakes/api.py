"""What a writer talks to: objects at their paths, applied to as an API server does, as far as writing looks at it.

`drops` are fields of a status that the schema doesn't have; `fails` is asked before every request.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from announcer.core.model import ObjectRef
from announcer.store.kubernetes import ApiError
from announcer.store.kubernetes.patches import Target
from announcer.store.kubernetes.resources import CONFIGURATION, MIRRORS, NODE_ANNOUNCEMENTS, SERVICES, Resource
from tests.builders import Raw

RESOURCES: Mapping[str, Resource] = {
    resource.kind: resource for resource in (SERVICES, NODE_ANNOUNCEMENTS, *CONFIGURATION, *MIRRORS)
}


class FakeApi:
    def __init__(self) -> None:
        self.objects: dict[ObjectRef, Raw] = {}
        self.meanings: dict[ObjectRef, object] = {}
        self.asked: list[tuple[str, str, Any]] = []
        self.drops: set[str] = set()
        self.fails: Callable[[str, str], ApiError | None] = lambda _method, _path: None
        self._version = 100

    def put(self, ref: ObjectRef, **rest: Any) -> None:
        metadata = {"name": ref.name, "namespace": ref.namespace, "uid": f"uid-{ref.name}"} | rest.pop("metadata", {})
        self.objects[ref] = {"kind": ref.kind, "metadata": metadata} | rest
        self._touch(ref)

    def target(self, ref: ObjectRef) -> Target | None:
        raw = self.objects.get(ref)
        version = RESOURCES[ref.kind].versions[0]
        if raw is None:
            return Target(resource=RESOURCES[ref.kind], version=version, raw=None)
        return Target(
            resource=RESOURCES[ref.kind],
            version=version,
            raw=raw,
            resource_version=raw["metadata"]["resourceVersion"],
            uid=raw["metadata"]["uid"],
            meaning=self.meanings.get(ref),
        )

    def took(self, ref: ObjectRef, raw: Raw) -> None:
        self.objects[ref] = raw

    def writes(self, kind: str = "") -> list[Any]:
        return [body for method, _, body in self.asked if method == "PATCH" and kind in {"", body["kind"]}]

    def events(self) -> list[tuple[str, str]]:
        return [(b["involvedObject"]["name"], b["reason"]) for _, path, b in self.asked if path.endswith("/events")]

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "",
        timeout_seconds: float,
    ) -> bytes:
        assert timeout_seconds > 0
        assert method != "PATCH" or (query and query["force"] == "true" and "apply" in content_type)
        said: Any = body
        self.asked.append((method, path, said))
        error = self.fails(method, path)
        if error is not None:
            raise error
        if method == "PATCH":
            return json.dumps(self._apply(path, said)).encode()
        if method == "DELETE":
            self.objects = {ref: raw for ref, raw in self.objects.items() if ref.name != path.rpartition("/")[2]}
        return b"{}"

    def _apply(self, path: str, body: Raw) -> Raw:
        metadata = body["metadata"]
        ref = ObjectRef(kind=body["kind"], namespace=metadata.get("namespace", ""), name=metadata["name"])
        is_status = path.endswith("/status")
        if ref not in self.objects:
            if is_status:
                raise ApiError("not found", status=404)
            self.put(ref)
        raw = self.objects[ref]
        asked = metadata.get("resourceVersion")
        if asked and asked != raw["metadata"]["resourceVersion"]:
            raise ApiError("the object has been modified", status=409)
        if is_status:
            status = {k: v for k, v in body["status"].items() if k not in self.drops}
            raw = {**raw, "status": {**raw.get("status", {}), **status}}
        notes = {**raw["metadata"].get("annotations", {}), **metadata.get("annotations", {})}
        labels = {**raw["metadata"].get("labels", {}), **metadata.get("labels", {})}
        self.objects[ref] = {**raw, "metadata": {**raw["metadata"], "annotations": notes, "labels": labels}}
        self._touch(ref)
        return self.objects[ref]

    def _touch(self, ref: ObjectRef) -> None:
        self._version += 1
        raw = self.objects[ref]
        self.objects[ref] = {**raw, "metadata": {**raw["metadata"], "resourceVersion": str(self._version)}}
