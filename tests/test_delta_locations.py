"""Tables under folders of any name: written and read where they were asked to be, or refused before anything is."""

from __future__ import annotations

import fsspec
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from halsted_ray.errors import UsageError
from halsted_ray.storage.delta import is_table, native_files, open_table, storage_options, table_uri

NAMES = [
    "a b",
    " a",
    "100%",
    "a%2",
    "a#b",
    "a?b=c",
    "a+b&c",
    "Zoë–Ø",
    "日本",
    "a::b",
    "a:b",
    "a*b",
    "{a}",
    "~a",
    "a'b\"c",
    "a;b",
    "a=b,c",
    "a<b>",
    "a`b",
]
ON_S3_ALONE = ["a[b]", "a|b^c", "a\\b"]
MISREAD = ["a%20b", "%C3%A9", "a%25b"]


def write_and_read(root: str) -> None:
    uri = table_uri(root, "maps", "t")
    assert not is_table(uri)
    for mode, number in (("append", 1), ("append", 2), ("overwrite", 3), ("append", 4)):
        write_deltalake(
            uri,
            pa.table({"x": [number]}),
            mode=mode,
            predicate="x > 0" if mode == "overwrite" else None,
            storage_options=storage_options(uri) or None,
        )
    assert is_table(uri)
    table = open_table(uri)
    files = native_files(table)
    assert sorted(table.to_pyarrow_table(filesystem=files)["x"].to_pylist()) == [3, 4]
    assert table.to_pyarrow_dataset(filesystem=files).count_rows() == 2


@pytest.mark.parametrize("name", NAMES)
def test_on_a_disk(name, tmp_path):
    write_and_read(str(tmp_path / name))
    assert len(list((tmp_path / name / "maps" / "t").glob("*.parquet"))) == 4
    assert [path.name for path in tmp_path.iterdir()] == [name], "and nowhere else"


@pytest.mark.parametrize("name", NAMES + ON_S3_ALONE)
def test_on_s3(name, s3_server):
    write_and_read(f"{s3_server.bucket}/places/{name}")
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    found = {path for path in fs.find("archive/places") if path.startswith(f"archive/places/{name}/maps/t/")}
    assert len([path for path in found if path.endswith(".parquet")]) == 4


@pytest.mark.parametrize(
    "root", [f"/data/{name}" for name in (*MISREAD, *ON_S3_ALONE)] + [f"s3://bucket/{name}" for name in MISREAD]
)
def test_a_name_that_deltalake_takes_for_another_is_refused(root):
    with pytest.raises(UsageError, match="Delta tables can't lie under a name with .*rename the folder"):
        table_uri(root, "maps")
