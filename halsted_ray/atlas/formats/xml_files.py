"""XML from outside, read without entities and within bounds; and any Unicode text in XML.

No entity is expanded and nothing outside the file is loaded: a file that declares an entity is refused. XML 1.0 can't
hold most control characters; they are written as ``\\uXXXX``, and a backslash that would read as one is written so too.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Callable
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from halsted_ray.atlas.formats.recording import read_bytes
from halsted_ray.errors import AtlasError
from halsted_ray.storage.locations import filesystem

MOST_BYTES = 1 << 30
"""A CVAT file has about 100 bytes per frame and track."""
DEEPEST = 64
"""Elements inside each other; the formats read here have at most eight."""
LINE = "line"
"""The attribute that ``parse`` adds to each element: its line in the file. No format read here has it."""
NO_XML = re.compile(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]")
ESCAPED = re.compile(r"\\u(00[01][0-9a-f]|fff[ef]|005c)")


def parse(
    uri: str, done: Callable[[Element], None] | None = None, parts: tuple[str, ...] = (), member: str = ""
) -> Element:
    """Returns the root of the XML file at ``uri``; each element has its line as an attribute (``LINE``).

    ``done`` gets each whole element whose name is in ``parts``, and its content is dropped afterwards, so that memory
    holds one of them at a time. ``member``: the file to read where ``uri`` is a ZIP file. Raises AtlasError for a file
    that is not well-formed, declares entities, or is larger or deeper than the bounds above.
    """
    fs, path = filesystem(uri)
    if fs.isfile(path) and (size := fs.size(path) or 0) > MOST_BYTES:
        raise AtlasError(f"{uri}: {size} bytes; expected at most {MOST_BYTES}: export fewer videos per file")
    parser, builder = expat.ParserCreate(), TreeBuilder()
    parser.buffer_text = True
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise AtlasError(f"{uri}:{parser.CurrentLineNumber}: elements {depth} deep; expected at most {DEEPEST}")
        builder.start(name, {**attributes, LINE: str(parser.CurrentLineNumber)})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        element = builder.end(name)
        if done is not None and name in parts:
            done(element)
            attributes = dict(element.attrib)
            element.clear()
            element.attrib.update(attributes)

    def refuse(*declared: object) -> None:
        raise AtlasError(
            f"{uri}:{parser.CurrentLineNumber}: it declares the entity {declared[0]!r}; expected XML without entities"
        )

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(content_of(uri, member), True)
    except AtlasError:
        raise
    except (LookupError, ValueError) as error:  # an encoding that Python does not know, or that expat can't use
        raise AtlasError(f"{uri}:1: not well-formed XML: {error}") from error
    except expat.ExpatError as error:
        raise AtlasError(f"{uri}:{error.lineno}: not well-formed XML: {expat.ErrorString(error.code)}") from error
    return builder.close()


def content_of(uri: str, member: str) -> bytes:
    """Returns the content of the file at ``uri``, or of its ``member`` where it is a ZIP file. Raises AtlasError."""
    data = read_bytes(uri)
    if not member or not data.startswith(b"PK\x03\x04"):
        return data
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed, packed.open(member) as file:
            content = file.read(MOST_BYTES + 1)
    except (KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise AtlasError(f"{uri}: {error}; expected a ZIP file with {member}") from error
    if len(content) > MOST_BYTES:
        raise AtlasError(f"{uri}: more than {MOST_BYTES} bytes in {member}; export fewer videos per file")
    return content


def line_of(element: Element) -> int:
    """Returns the line on which an element of ``parse`` begins."""
    return int(element.get(LINE, "0"))


def to_xml(text: str) -> str:
    """Returns ``text`` without characters that XML can't hold; ``from_xml`` gives ``text`` back."""
    text = ESCAPED.sub(lambda found: rf"\u005c{found[0][1:]}", text)
    return NO_XML.sub(lambda found: rf"\u{ord(found[0]):04x}", text)


def from_xml(text: str) -> str:
    """Returns what ``to_xml`` was given."""
    return ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
