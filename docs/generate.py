"""Writes the pages of the reference from the code, while the site is built: command, HTTP, tables, codes.

Run by mkdocs-gen-files (`make docs`). Nothing is written to the disk, so no page can fall behind the code.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from typing import Any

import mkdocs_gen_files
import pyarrow as pa

from halsted_ray.cli.parser import build_parser


def write(page: str, lines: Iterator[str]) -> None:
    """Writes one page of the site."""
    with mkdocs_gen_files.open(page, "w") as file:
        file.write("\n".join(lines) + "\n")
    mkdocs_gen_files.set_edit_path(page, "generate.py")


def parsers(parser: argparse.ArgumentParser, level: int = 2) -> Iterator[tuple[int, argparse.ArgumentParser]]:
    """Every command with its depth, in the order of the help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield level, command
                yield from parsers(command, level + 1)


def command_page() -> Iterator[str]:
    """The help of every command, as it prints."""
    parser = build_parser()
    yield "# Command\n"
    yield "What `halsted --help` and `halsted COMMAND --help` print. `halsted completion bash` completes words.\n"
    yield f"```text\n{parser.format_help()}```\n"
    for level, command in parsers(parser):
        yield f"{'#' * level} {command.prog}\n"
        yield f"```text\n{command.format_help()}```\n"


def fields(schema: pa.Schema) -> Iterator[str]:
    """One row per column."""
    yield "| column | type |\n|---|---|"
    for field in schema:
        yield f"| `{field.name}` | `{field.type}` |"
    yield ""


def tables_page() -> Iterator[str]:
    """Columns of every table that this system writes."""
    from halsted_ray.maps import table_schemas
    from halsted_ray.maps.cases import CASES_SCHEMA
    from halsted_ray.maps.stitch_table import STITCHES_SCHEMA
    from halsted_ray.records import SAMPLE_SCHEMA, VIDEO_SCHEMA
    from halsted_ray.reporting.mapped_archive import VECTORS_SCHEMA
    from halsted_ray.sequences.economy import ECONOMY_SCHEMA

    yield "# Tables\n"
    yield "Maps and atlases are [Delta tables](https://delta.io). Vectors are files of their own, Arrow and Parquet.\n"
    for title, note, schema in (
        ("OUT/timeline", "One row per interval of one tag: the map.", table_schemas.TIMELINE_SCHEMA),
        ("OUT/videos", "One row per file that was found.", table_schemas.VIDEOS_SCHEMA),
        ("OUT/cases", "One row per video of a case (`--case-by`).", CASES_SCHEMA),
        ("OUT/segments", "One row per segment, with its predictions and gaps.", table_schemas.SEGMENTS_SCHEMA),
        ("stitches", "One row per stitch, computed from the timeline (`halsted stitches`).", STITCHES_SCHEMA),
        ("economy", "One row per video, computed from the timeline (`halsted economy`).", ECONOMY_SCHEMA),
        ("OUT/embeddings", "One row per window that was encoded.", VECTORS_SCHEMA),
        ("ARCHIVE/atlas/videos", "One row per annotated video.", VIDEO_SCHEMA),
        ("ARCHIVE/atlas/samples", "One row per annotated clip and task.", SAMPLE_SCHEMA),
    ):
        yield f"## {title}\n"
        yield note + "\n"
        yield from fields(schema)


def rights_page() -> Iterator[str]:
    """Who may do what with a case, and who may use each route, from the code that decides it."""
    from halsted_ray.service import route_access

    yield from route_access.rights_page()


def codes_page() -> Iterator[str]:
    """The codes by which reports name tags and categories, from the shipped value set."""
    from halsted_ray.hospital import value_set

    yield "# Codes\n"
    yield (
        "How DICOM SRs and FHIR bundles name the tags and categories of the taxonomy `halsted`. "
        f"`{value_set.PRIVATE_SCHEME}` in DICOM is `{value_set.PRIVATE_SYSTEM}` in FHIR. "
        "A clinician must verify the codes of SNOMED CT (SCT).\n"
    )
    for tag, categories in value_set.listed_categories().items():
        concept = value_set.tag_concept(tag)
        yield f"## {tag}\n"
        yield f"`{concept.scheme}` `{concept.code}`\n"
        yield "| category | scheme | code | meaning |\n|---|---|---|---|"
        for category in categories:
            concept = value_set.category_concept(tag, category)
            yield f"| {category} | {concept.scheme} | `{concept.code}` | {concept.meaning} |"
        yield ""


def http_page() -> Iterator[str]:
    """Every operation of the HTTP API with its parameters and answers, from its OpenAPI description."""
    from halsted_ray.service.api import create_api
    from halsted_ray.service.components import ServiceComponents
    from halsted_ray.service.settings import Settings

    with tempfile.TemporaryDirectory() as state:
        described = create_api(ServiceComponents.open(Settings.read({"HALSTED_STATE": state}))).openapi()
    yield "# HTTP\n"
    yield described["info"]["description"] + "\n"
    yield "A running service shows the same at `/docs`, and the OpenAPI description at `/openapi.json`.\n"
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            yield f"## {method.upper()} {path}\n"
            yield (operation.get("description") or operation.get("summary") or "") + "\n"
            inputs = operation.get("parameters", [])
            if inputs:
                yield "| parameter | where | type | needed |\n|---|---|---|---|"
                for given in inputs:
                    yield f"| `{given['name']}` | {given['in']} | {kind(given['schema'])} | {needed(given)} |"
                yield ""
            body = operation.get("requestBody", {}).get("content", {})
            for media, content in body.items():
                yield f"Body: `{media}`, {kind(content.get('schema', {}))}\n"
            codes = ", ".join(sorted(operation["responses"]))
            yield f"Answers: {codes}\n"
    yield "## Bodies\n"
    for name, schema in described["components"]["schemas"].items():
        yield f"### {name}\n"
        yield f"```json\n{json.dumps(schema.get('properties', schema), indent=1, ensure_ascii=False)}\n```\n"


def needed(given: dict[str, Any]) -> str:
    """In words."""
    return "yes" if given.get("required") else "no"


def kind(schema: dict[str, Any]) -> str:
    """What a JSON schema says a value is, in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(kind(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {kind(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


write("reference/command.md", command_page())
write("reference/codes.md", codes_page())
write("reference/tables.md", tables_page())
write("reference/http.md", http_page())
write("reference/rights.md", rights_page())
