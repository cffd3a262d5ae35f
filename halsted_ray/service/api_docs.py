"""The page at /docs: the API's description as plain HTML, drawn here from its OpenAPI schema.

FastAPI's own page loads its program from a CDN, and here nothing is loaded from outside.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from html import escape

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b2733}
h2{font-size:1rem;margin:2rem 0 .25rem}code{font:14px/1.5 ui-monospace,monospace}b{color:#0a5c8f}
table{border-collapse:collapse;font-size:14px}td{padding:.1rem 1rem .1rem 0;vertical-align:top}p{margin:.25rem 0}
pre{background:#f2f5f7;padding:.75rem;overflow:auto;font-size:14px}"""
POLICY = f"default-src 'none'; style-src 'sha256-{b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
"""Content-Security-Policy of the page."""
EXAMPLE = """curl -H "x-api-key: $KEY" --data-binary @clip.mp4 "{base}v1/clips:map?instruction=map+procedure+type"
curl -H "x-api-key: $KEY" -H "content-type: application/json" -d '{{}}' {base}v1/uploads
curl -H "x-api-key: $KEY" -T part-1 {base}v1/uploads/$UPLOAD/parts/1
curl -H "x-api-key: $KEY" -X POST {base}v1/uploads/$UPLOAD/complete
curl -H "x-api-key: $KEY" -H "content-type: application/json" -d '{{}}' {base}v1/videos/$VIDEO/maps
curl -H "x-api-key: $KEY" -N {base}v1/jobs/$JOB/events
curl -H "x-api-key: $KEY" "{base}v1/videos/$VIDEO/timeline?format=csv" """


def page(schema: dict, base: str) -> str:
    """``base``: the service's address, with a slash at its end."""
    schemas = schema.get("components", {}).get("schemas", {})
    operations = "\n".join(
        _operation(path, method, found, schemas)
        for path, methods in schema["paths"].items()
        for method, found in methods.items()
    )
    about = schema["info"]
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(about["title"])}</title>
<style>{STYLE}</style><h1>{escape(about["title"])} {escape(about["version"])}</h1>
<p>{escape(about.get("description", "")).replace("**", "")}</p>
<p>For programs: <a href="openapi.json">openapi.json</a>. A key goes into the header <code>x-api-key</code>.</p>
<pre>{escape(EXAMPLE.format(base=base))}</pre>
{operations}</html>"""


def _operation(path: str, method: str, found: dict, schemas: dict) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code><td>{escape(where)}<td>{escape(what)}"
        for name, where, what in _inputs(found, schemas)
    )
    about = escape(found.get("description", "").replace("``", ""))
    return f"<h2><b>{method.upper()}</b> <code>{escape(path)}</code></h2><p>{about}</p><table>{rows}</table>"


def _inputs(found: dict, schemas: dict) -> Iterator[tuple[str, str, str]]:
    for one in found.get("parameters", []):
        yield one["name"], one["in"], one.get("description") or _kind(one["schema"])
    for media, content in found.get("requestBody", {}).get("content", {}).items():
        yield media, "body", _kind(content.get("schema", {}))
        for name, schema in _fields(content.get("schema", {}), schemas).items():
            yield name, "in the body", schema.get("description") or _kind(schema)
    for status, answer in found.get("responses", {}).items():
        for content in answer.get("content", {}).values():
            if status.startswith("2") and (fields := _fields(content.get("schema", {}), schemas)):
                yield status, "answer", ", ".join(fields)


def _fields(schema: dict, schemas: dict) -> dict[str, dict]:
    """Name → schema of an object's fields; of a list's, those of its entries."""
    schema = schema.get("items", schema)
    return schemas.get(_kind(schema), schema).get("properties", {})


def _kind(schema: dict) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[-1]
    return " | ".join(map(str, schema["enum"])) if "enum" in schema else schema.get("type", "")
