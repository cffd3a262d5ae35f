"""The page at /docs: the description of the API as plain HTML, made from its OpenAPI schema.

FastAPI's own page loads its program from a CDN; the pages of this service load nothing from outside.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from html import escape
from typing import Any

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b2733}
h2{font-size:1rem;margin:2rem 0 .25rem}code{font:14px/1.5 ui-monospace,monospace}b{color:#0a5c8f}
table{border-collapse:collapse;font-size:14px}td{padding:.1rem 1rem .1rem 0;vertical-align:top}p{margin:.25rem 0}
pre{background:#f2f5f7;padding:.75rem;overflow:auto;font-size:14px}"""
POLICY = f"default-src 'none'; style-src 'sha256-{b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
"""The Content-Security-Policy of the page."""
EXAMPLE = """curl -H "x-api-key: $KEY" --data-binary @clip.mp4 "{base}v1/clips:map?instruction=map+procedure+type"
curl -H "x-api-key: $KEY" -H "content-type: application/json" -d '{{}}' {base}v1/uploads
curl -H "x-api-key: $KEY" -T part-1 {base}v1/uploads/$UPLOAD/parts/1
curl -H "x-api-key: $KEY" -X POST {base}v1/uploads/$UPLOAD/complete
curl -H "x-api-key: $KEY" -H "content-type: application/json" -d '{{}}' {base}v1/videos/$VIDEO/maps
curl -H "x-api-key: $KEY" -N {base}v1/jobs/$JOB/events
curl -H "x-api-key: $KEY" "{base}v1/videos/$VIDEO/timeline?format=csv" """


def render(schema: dict[str, Any], base: str) -> str:
    """The page as HTML. ``schema``: the OpenAPI schema. ``base``: the service's address, with a slash at its end."""
    schemas = schema.get("components", {}).get("schemas", {})
    operations = "\n".join(
        _operation(path, method, operation, schemas)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    )
    about = schema["info"]
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(about["title"])}</title>
<style>{STYLE}</style><h1>{escape(about["title"])} {escape(about["version"])}</h1>
<p>{escape(about.get("description", "")).replace("**", "")}</p>
<p>For programs: <a href="openapi.json">openapi.json</a>. A key goes into the header <code>x-api-key</code>.</p>
<pre>{escape(EXAMPLE.format(base=base))}</pre>
{operations}</html>"""


def _operation(path: str, method: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code><td>{escape(place)}<td>{escape(about)}"
        for name, place, about in _fields(operation, schemas)
    )
    about = escape(operation.get("description", "").replace("``", ""))
    return f"<h2><b>{method.upper()}</b> <code>{escape(path)}</code></h2><p>{about}</p><table>{rows}</table>"


def _fields(operation: dict[str, Any], schemas: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(name, place, description) of what an operation takes and gives."""
    for parameter in operation.get("parameters", []):
        yield parameter["name"], parameter["in"], parameter.get("description") or _type_name(parameter["schema"])
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        yield media, "body", _type_name(content.get("schema", {}))
        for name, schema in _properties(content.get("schema", {}), schemas).items():
            yield name, "in the body", schema.get("description") or _type_name(schema)
    for status, answer in operation.get("responses", {}).items():
        for content in answer.get("content", {}).values():
            if status.startswith("2") and (properties := _properties(content.get("schema", {}), schemas)):
                yield status, "answer", ", ".join(properties)


def _properties(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name → schema of the fields of an object; of a list the fields of its entries."""
    schema = schema.get("items", schema)
    properties: dict[str, dict[str, Any]] = schemas.get(_type_name(schema), schema).get("properties", {})
    return properties


def _type_name(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type_name(option) for option in schema["anyOf"] if option.get("type") != "null")
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[-1])
    return " | ".join(map(str, schema["enum"])) if "enum" in schema else str(schema.get("type", ""))
