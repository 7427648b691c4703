"""A judge of requests and answers by Google's own discovery document, as `google-api-python-client` ships it.

It shares nothing with the emulator: what it knows is the document alone.
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX = "/compute/v1/"
INTEGERS = {
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
ERROR_FIELDS = {"code", "message", "errors", "status", "details"}
Schema = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """One method of the document; `pattern` matches its path below `/compute/v1/`."""

    id: str
    verb: str
    pattern: re.Pattern[str]
    parameters: dict[str, Schema]
    request: Schema | None
    response: Schema | None


@dataclass(frozen=True)
class Document:
    """The discovery document, ready to judge by."""

    revision: str
    schemas: dict[str, Schema]
    methods: list[Method]
    shared: dict[str, Schema]

    def method(self, verb: str, path: str) -> Method | None:
        """Which method this path is; the one with the fewest parameters in its path wins."""
        fits = [m for m in self.methods if m.verb == verb and m.pattern.fullmatch(path)]
        return min(fits, key=lambda method: method.pattern.groups, default=None)

    def judge(self, schema: Schema, value: Any, where: str) -> list[str]:
        """What is wrong with `value`, as lines that name the place."""
        if "$ref" in schema:
            return self.judge(self.schemas[schema["$ref"]], value, where)
        kind = schema.get("type")
        if kind == "object":
            return self._judge_object(schema, value, where)
        if kind == "array":
            if not isinstance(value, list):
                return [f"{where}: {value!r} is no array"]
            return [line for i, each in enumerate(value) for line in self.judge(schema["items"], each, f"{where}[{i}]")]
        return _judge_scalar(schema, value, where)

    def _judge_object(self, schema: Schema, value: Any, where: str) -> list[str]:
        if not isinstance(value, dict):
            return [f"{where}: {value!r} is no object"]
        known, rest = schema.get("properties", {}), schema.get("additionalProperties")
        lines = []
        for name, each in value.items():
            inner = known.get(name, rest)
            lines += [f"{where}.{name}: unknown field"] if inner is None else self.judge(inner, each, f"{where}.{name}")
        return lines


@cache
def document() -> Document:
    """The document of the installed client."""
    content = json.loads(files("googleapiclient.discovery_cache.documents").joinpath("compute.v1.json").read_bytes())
    methods = [_method(m) for resource in content["resources"].values() for m in resource["methods"].values()]
    return Document(content["revision"], content["schemas"], methods, content["parameters"])


def _method(content: dict[str, Any]) -> Method:
    parameters = content.get("parameters", {})
    path = re.escape(content["path"])
    for name, parameter in parameters.items():
        if parameter["location"] == "path":
            path = path.replace(re.escape("{" + name + "}"), f"(?P<{name}>{parameter.get('pattern', '[^/]+')})")
            path = path.replace(re.escape("{+" + name + "}"), f"(?P<{name}>.+)")
    query = {name: each for name, each in parameters.items() if each["location"] == "query"}
    return Method(
        content["id"],
        content["httpMethod"],
        re.compile(path),
        query,
        content.get("request"),
        content.get("response"),
    )


def _judge_scalar(schema: Schema, value: Any, where: str) -> list[str]:
    kind, form = schema.get("type"), schema.get("format", "")
    types: dict[str, tuple[type, ...]] = {
        "string": (str,),
        "boolean": (bool,),
        "integer": (int,),
        "number": (int, float),
    }
    if kind == "any":
        return []
    if type(value) not in types[str(kind)]:
        return [f"{where}: {value!r} is no {kind}" + (f" ({form})" if form else "")]
    lines = []
    if "enum" in schema and value not in schema["enum"]:
        lines.append(f"{where}: {value!r} is not of the enum")
    if "pattern" in schema and not re.fullmatch(schema["pattern"], str(value)):
        lines.append(f"{where}: {value!r} does not match {schema['pattern']}")
    if form in INTEGERS:
        low, high = INTEGERS[form]
        if not re.fullmatch(r"-?\d+", str(value)) or not low <= int(value) <= high:
            lines.append(f"{where}: {value!r} is no {form}")
    if form == "byte" and not _is_base64(value):
        lines.append(f"{where}: {value!r} is no base64")
    dated = form in ("date-time", "google-datetime") or "RFC3339" in schema.get("description", "").replace(" ", "")
    if dated and kind == "string" and not RFC3339.fullmatch(value):
        lines.append(f"{where}: {value!r} is no RFC 3339 instant")
    return lines


def _is_base64(value: str) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


@dataclass
class Judge:
    """ASGI middleware that looks at every exchange below `/compute/v1/`. `violations` must stay empty.

    `methods` counts the exchanges judged, by the document's id of the method: a judge that saw nothing proves nothing.
    """

    app: ASGIApp
    violations: list[str] = field(default_factory=list)
    methods: dict[str, int] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not str(scope["path"]).startswith("/compute"):
            await self.app(scope, receive, send)
            return
        asked, answered, status, media = bytearray(), bytearray(), [0], [""]

        async def hear() -> Message:
            message = await receive()
            asked.extend(message.get("body", b""))
            return message

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                media[0] = dict(message["headers"]).get(b"content-type", b"").decode()
            answered.extend(message.get("body", b""))
            await send(message)

        path, query = str(scope["path"]), scope["query_string"].decode()
        try:
            await self.app(scope, hear, say)
        finally:  # a request counts also when its answer is cut off
            self.judge_request(scope["method"], path, query, bytes(asked))
        if media[0].startswith("application/json"):
            self.judge_answer(scope["method"], path, status[0], bytes(answered))

    def judge_request(self, verb: str, path: str, query: str, body: bytes) -> None:
        """Note what is wrong with a request."""
        method = self._method(verb, path)
        if method is None:
            return
        self.methods[method.id] = self.methods.get(method.id, 0) + 1
        for name, value in parse_qsl(query, keep_blank_values=True):
            schema = method.parameters.get(name) or document().shared.get(name)
            if schema is None:
                self.violations.append(f"{method.id}: unknown query parameter {name!r}")
            else:
                self.violations += _judge_scalar(schema, _read(schema, value), f"{method.id}?{name}")
        if body and method.request is None:
            self.violations.append(f"{method.id}: takes no body")
        elif body and method.request is not None:
            self.violations += document().judge(method.request, json.loads(body), f"{method.id} request")

    def judge_answer(self, verb: str, path: str, status: int, body: bytes) -> None:
        """Note what is wrong with an answer."""
        method = self._method(verb, path)
        if method is None:
            return
        content = json.loads(body)
        if status >= 400:
            error = content.get("error", {})
            if set(content) != {"error"} or not set(error) <= ERROR_FIELDS or error.get("code") != status:
                self.violations.append(f"{method.id}: {content!r} is no error envelope of {status}")
        elif method.response is not None:
            self.violations += document().judge(method.response, content, f"{method.id} answer")

    def _method(self, verb: str, path: str) -> Method | None:
        found = document().method(verb, path.removeprefix(PREFIX)) if path.startswith(PREFIX) else None
        if found is None:
            self.violations.append(f"{verb} {path}: no such method")
        return found


def _read(schema: Schema, text: str) -> Any:
    """A query parameter as the value it stands for."""
    if schema["type"] == "boolean":
        return {"true": True, "false": False}.get(text.lower(), text)
    if schema["type"] == "integer":
        return int(text) if re.fullmatch(r"-?\d+", text) else text
    return text
