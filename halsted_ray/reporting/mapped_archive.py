"""A mapped archive as Python reads it: its tables as Arrow, pandas or a Ray Dataset, and a timeline as a plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet as pq

from halsted_ray import taxonomy as taxonomies
from halsted_ray.errors import UsageError
from halsted_ray.maps.cases import CASES_SCHEMA, case_statuses, case_timeline, read_cases
from halsted_ray.maps.reading import read_table
from halsted_ray.maps.status import status_of
from halsted_ray.maps.stitch_table import STITCHES_SCHEMA, read_stitches, stitch_rows
from halsted_ray.maps.table_schemas import SEGMENTS_SCHEMA, TIMELINE_SCHEMA, VIDEOS_SCHEMA
from halsted_ray.reporting.lanes import timeline
from halsted_ray.reporting.map_plots import timeline_plot
from halsted_ray.reporting.report_data import find_video, taxonomy_of
from halsted_ray.sequences.economy import ECONOMY_SCHEMA, economy_rows, read_economy
from halsted_ray.storage.delta import is_table, native_files, open_table, table_uri
from halsted_ray.storage.locations import absolute_location, filesystem
from halsted_ray.storage.vector_files import stored_file
from halsted_ray.storage.vectors import stores_at

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    import ray.data

Filter = tuple[str, str, Any]
"""(column, operator, value) as ``pyarrow.parquet.read_table`` takes it: ``("video_id", "=", "3f2a…")``."""


VECTOR_FILES_A_BATCH = 4
"""Files that a worker of Ray reads at once: 18 MB where each holds an hour at D = 1408."""
VECTORS_SCHEMA = pa.schema(
    [
        ("encoder", pa.string()),
        ("sampling", pa.string()),
        ("video_id", pa.string()),
        ("kind", pa.string()),
        ("start_s", pa.float64()),
        ("stop_s", pa.float64()),
        ("vector", pa.list_(pa.float16())),
    ]
)
"""``encoder``: its fingerprint. ``sampling``: how frames were picked. ``kind``: coarse, fine, clip. ``vector``: [D]."""


@dataclass(frozen=True)
class MapTable:
    """One table of a mapped archive. Nothing is read until one of the methods is called."""

    name: str
    schema: pa.Schema
    _dataset: Callable[[], pa.dataset.Dataset | None]
    """None where nothing was published yet."""

    def to_arrow(self, columns: Sequence[str] | None = None, filters: Sequence[Filter] | None = None) -> pa.Table:
        """The rows that pass all ``filters``, with ``columns`` (None: all), in memory."""
        found, names = self._dataset(), list(columns or self.schema.names)
        if found is None:
            return self.schema.empty_table().select(names)
        condition = pq.filters_to_expression(list(filters)) if filters else None
        return found.to_table(columns=names, filter=condition)

    def to_pandas(self, columns: Sequence[str] | None = None, filters: Sequence[Filter] | None = None) -> pd.DataFrame:
        """The same as a pandas DataFrame."""
        return self.to_arrow(columns, filters).to_pandas()

    def to_ray(self) -> ray.data.Dataset:
        """All rows as a Ray Dataset, which reads them block by block on the workers of a cluster."""
        import ray.data  # here: who reads a map as Arrow needs no Ray

        found = self._dataset()
        if found is None:
            return ray.data.from_arrow(self.schema.empty_table())
        return ray.data.read_parquet(found.files, filesystem=found.filesystem)


@dataclass(frozen=True)
class ComputedTable(MapTable):
    """A table that is stored nowhere: it is computed whenever one of the methods is called."""

    def to_ray(self) -> ray.data.Dataset:
        """All rows as a Ray Dataset, computed in this process."""
        import ray.data

        return ray.data.from_arrow(self.to_arrow())


@dataclass(frozen=True)
class VectorTable(MapTable):
    """The stored vectors, of all encoders and samplings. A window that a mapping is just packing stands twice."""

    location: str = ""

    @classmethod
    def at(cls, location: str) -> VectorTable:
        """The vectors kept at ``location``."""
        return cls("vectors", VECTORS_SCHEMA, lambda: vectors_dataset(location, vector_paths(location)), location)

    def to_ray(self) -> ray.data.Dataset:
        """All rows as a Ray Dataset, which reads them file by file on the workers of a cluster."""
        import ray.data

        paths = vector_paths(self.location)
        if not paths:
            return ray.data.from_arrow(self.schema.empty_table())
        files = ray.data.from_items([{"path": path} for path in paths])
        return files.map_batches(
            _rows_of_files, fn_args=(self.location,), batch_size=VECTOR_FILES_A_BATCH, batch_format="pyarrow"
        )


def vector_paths(location: str) -> list[str]:
    """The paths of all files of vectors at ``location``, in order."""
    return sorted(file.path for store in stores_at(location) for file in store.files())


def vectors_dataset(location: str, paths: Sequence[str]) -> pa.dataset.Dataset | None:
    """The rows of VECTORS_SCHEMA in the files ``paths`` at ``location``; None where there is no file."""
    fs = pa.fs.PyFileSystem(pa.fs.FSSpecHandler(filesystem(location)[0]))
    parts = []
    for kind in (pa.dataset.ParquetFileFormat(), pa.dataset.IpcFileFormat()):
        of_kind = [path for path in paths if path.endswith(f".{kind.default_extname}")]
        if of_kind:
            said = [_said_by_path(path) for path in of_kind]
            parts.append(pa.dataset.FileSystemDataset.from_paths(of_kind, VECTORS_SCHEMA, kind, fs, said))
    return pa.dataset.dataset(parts) if parts else None


def _said_by_path(path: str) -> pc.Expression:
    """What the path of a file of vectors says about all of its rows."""
    file = stored_file(path)
    assert file is not None
    encoder, sampling = path.split("/")[-3:-1] if file.is_packed else path.split("/")[-4:-2]
    return (
        (pc.field("encoder") == encoder) & (pc.field("sampling") == sampling) & (pc.field("video_id") == file.video_id)
    )


def _rows_of_files(files: pa.Table, location: str) -> pa.Table:
    found = vectors_dataset(location, files["path"].to_pylist())
    assert found is not None
    return found.to_table()


class MappedArchive:
    """The maps at ``location``: what ``halsted map … --out LOCATION`` left there. ``open_maps`` makes one.

    ``timeline``, ``videos``, ``segments``, ``cases``, ``vectors``, ``stitches`` and ``economy`` are ``MapTable``s;
    docs/reference says their columns. Stitches (``maps.stitches``) and economy (``sequences.economy``) are computed
    from the timeline when they are read.
    """

    def __init__(self, location: str, embeddings: str | None = None, taxonomy: str | None = None):
        self.location = absolute_location(location)
        self.embeddings = absolute_location(embeddings) if embeddings else f"{self.location}/embeddings"
        self._taxonomy = taxonomy
        if read_table(self.location, "videos", columns=["video_id"]) is None:
            raise UsageError(
                f"{location!r} holds no maps: expected the tables of `halsted map`; map an archive to it first"
            )
        self.timeline = self._table("timeline", TIMELINE_SCHEMA)
        self.videos = self._table("videos", VIDEOS_SCHEMA)
        self.segments = self._table("segments", SEGMENTS_SCHEMA)
        self.cases = self._table("cases", CASES_SCHEMA)
        self.vectors = VectorTable.at(self.embeddings)
        self.stitches = ComputedTable("stitches", STITCHES_SCHEMA, self._found_stitches)
        self.economy = ComputedTable("economy", ECONOMY_SCHEMA, self._found_economy)

    @property
    def video_ids(self) -> list[str]:
        """Ids of the videos that have a map, whole or with gaps, in order."""
        ids = self.timeline.to_arrow(["video_id"])["video_id"]
        return sorted(pc.unique(ids).to_pylist())

    @property
    def case_ids(self) -> list[str]:
        """Ids of the cases that ``halsted map --case-by`` made, in order."""
        return sorted({chapter.case_id for chapter in read_cases(self.location)})

    def case_timeline(self, case_id: str) -> pa.Table:
        """The timeline of one case, its videos one after another on one axis, with the columns of ``timeline``.

        ``video_id`` is the case's id there, ``uri`` is empty. Raises UsageError where there is no such case.
        """
        chapters = [chapter for chapter in read_cases(self.location) if chapter.case_id == case_id]
        if not chapters:
            known = ", ".join(self.case_ids[:8]) or "none: map with --case-by first"
            raise UsageError(f"there is no case {case_id!r}; expected one of {known}")
        rows = self.timeline.to_arrow(filters=[("video_id", "in", [chapter.video_id for chapter in chapters])])
        return case_timeline(rows, chapters)

    def status(self) -> list[dict[str, Any]]:
        """What became of every video: one dict per video, as ``halsted status --json`` prints them."""
        return status_of(self.location)

    def plot(self, video: str) -> go.Figure:
        """The timeline of one video or case as a Plotly figure: one lane per tag, opacity by confidence, gaps in grey.

        ``video``: its id, the beginning of a video's id, or a file's name. Raises UsageError where none or several fit.
        """
        import plotly.graph_objects as go

        videos = self.status()
        if video in self.case_ids:
            found = find_video(case_statuses(videos, read_cases(self.location)), video)
            rows = self.case_timeline(video).to_pylist()
        else:
            found = find_video(videos, video)
            rows = self.timeline.to_arrow(filters=[("video_id", "=", found["video_id"])]).to_pylist()
        taxonomy = taxonomy_of(rows, self._taxonomy)
        figure = timeline_plot(timeline(found, rows, None, taxonomy), taxonomy)
        return go.Figure(data=figure["data"], layout=figure["layout"])

    def _found_stitches(self) -> pa.dataset.Dataset:
        taxonomy = taxonomies.load(self._taxonomy) if self._taxonomy else None
        rows = stitch_rows(read_stitches(self.location, taxonomy))
        return pa.dataset.dataset(pa.Table.from_pylist(rows, schema=STITCHES_SCHEMA))

    def _found_economy(self) -> pa.dataset.Dataset:
        taxonomy = taxonomies.load(self._taxonomy) if self._taxonomy else None
        rows = economy_rows(read_economy(self.location, taxonomy=taxonomy))
        return pa.dataset.dataset(pa.Table.from_pylist(rows, schema=ECONOMY_SCHEMA))

    def _table(self, name: str, schema: pa.Schema) -> MapTable:
        def dataset() -> pa.dataset.FileSystemDataset | None:
            uri = table_uri(self.location, name)
            if not is_table(uri):
                return None
            table = open_table(uri)
            # With today's columns: those that an older version of this package did not write are null.
            return table.to_pyarrow_dataset(filesystem=native_files(table), schema=schema)

        return MapTable(name, schema, dataset)


def open_maps(location: str, *, embeddings: str | None = None, taxonomy: str | None = None) -> MappedArchive:
    """Opens the maps that ``halsted map`` or ``map_archive`` left at ``location``.

    >>> from halsted_ray import open_maps
    >>> maps = open_maps("maps")
    >>> steps = maps.timeline.to_pandas(["video_id", "category"], filters=[("tag", "=", "step")])
    >>> sorted(set(steps.category))
    ['Dissection', 'Suturing']
    >>> maps.plot(maps.video_ids[0]).write_html("timeline.html")

    Args:
        location: A folder or any fsspec URL.
        embeddings: Where the vectors are kept, if not in ``<location>/embeddings``.
        taxonomy: File of the maps' taxonomy, needed by ``plot`` and ``stitches`` where it is not a taxonomy that ships.

    Raises:
        UsageError: Nothing was mapped to ``location``.
        OutputError: The tables can't be read.
    """
    return MappedArchive(location, embeddings, taxonomy)
