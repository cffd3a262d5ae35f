"""The public face: eleven names, quick to import, typed, each with an example that runs."""

from __future__ import annotations

import doctest
import inspect
import os
import subprocess
import sys

import maps as written
import pytest

import halsted_ray
from halsted_ray import errors
from halsted_ray.atlas.phantom_archive import write_archive

NAMES = [
    "embed_archive",
    "embeddings",
    "evaluate",
    "load_model",
    "map_archive",
    "open_atlas",
    "open_maps",
    "report",
    "self_label",
    "similar",
    "train",
]


def run(code: str, **options) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300, **options
    ).stdout


def test_the_face_has_eleven_names():
    assert sorted(halsted_ray.__all__) == NAMES
    assert all(callable(getattr(halsted_ray, name)) for name in NAMES)
    with pytest.raises(AttributeError, match="map_archives.*expected one of embed_archive"):
        halsted_ray.map_archives  # noqa: B018


def test_importing_the_package_imports_nothing_heavy():
    heavy = {"torch", "ray", "mlflow", "transformers", "pandas", "pyarrow"}
    assert run(f"import halsted_ray, sys; print(sorted({heavy!r} & set(sys.modules)))").strip() == "[]"


def test_reports_and_the_state_of_a_map_wait_for_no_pytorch_and_no_scipy():
    """They take four seconds of a core to import, and `halsted status` and `halsted show` read tables only."""
    heavy = {"torch", "ray", "scipy"}
    assert run(f"import halsted_ray.reporting, sys; print(sorted({heavy!r} & set(sys.modules)))").strip() == "[]"


def test_a_name_of_the_face_stays_itself_after_its_room_was_imported():
    """A room of the same name would take its place, as soon as somebody imports the room."""
    code = "import pkgutil, halsted_ray; print(sorted({m.name for m in pkgutil.iter_modules(halsted_ray.__path__)}))"
    rooms = eval(run(code))
    assert not set(rooms) & set(NAMES)


def test_the_package_says_that_it_is_typed():
    assert (halsted_ray.__path__[0] + "/py.typed") and os.path.exists(f"{halsted_ray.__path__[0]}/py.typed")
    for name in NAMES:
        signature = inspect.signature(getattr(halsted_ray, name))
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(given.annotation is not given.empty for given in signature.parameters.values()), name


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    out = str(tmp_path_factory.mktemp("maps"))
    written.write_maps(out)
    return halsted_ray.open_maps(out)


def test_open_maps_gives_tables_as_arrow_and_pandas(mapped):
    assert mapped.video_ids == sorted([written.WHOLE, written.PARTIAL])
    steps = mapped.timeline.to_pandas(["video_id", "category"], [("tag", "=", "step")])
    assert list(steps.columns) == ["video_id", "category"] and set(steps.category) == {"Suturing", "Dissection"}
    assert mapped.videos.to_arrow(filters=[("code", "=", "unreadable")])["video_id"].to_pylist() == [written.FAILED]
    assert mapped.segments.to_arrow().num_rows == 4
    assert mapped.vectors.to_arrow().num_rows == 0 and "vector" in mapped.vectors.schema.names
    assert {video["status"] for video in mapped.status()} == {"mapped", "partial", "failed"}


def test_open_maps_plots_a_video_by_the_beginning_of_its_id(mapped):
    figure = mapped.plot(written.PARTIAL[:4])
    assert len(figure.data) >= 2 and figure.layout.xaxis.range[1] == 120
    with pytest.raises(errors.UsageError, match="several videos fit"):
        mapped.plot("a")


def test_open_maps_refuses_a_place_without_maps(tmp_path):
    with pytest.raises(errors.UsageError, match="holds no maps"):
        halsted_ray.open_maps(str(tmp_path))


def test_the_shipped_model_loads_by_its_name():
    model = halsted_ray.load_model("phantom")
    assert model.config.encoder_ref == "tiny" and model.load_encoder().fingerprint == model.config.encoder_fingerprint


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the examples run: a folder with ``archive``, six synthetic videos with annotations and a split."""
    folder = tmp_path_factory.mktemp("examples")
    write_archive(str(folder / "archive"), 6, 0.5, 1, width=192, height=108, fps=8, validation=0.34, test=0.34)
    return folder


@pytest.mark.slow
def test_every_name_has_an_example_that_runs(place, monkeypatch):
    """In one folder, in this order: what one example writes, the next one may read."""
    monkeypatch.chdir(place)
    for name in (
        "map_archive",
        "embed_archive",
        "report",
        "open_maps",
        "open_atlas",
        "load_model",
        "train",
        "evaluate",
        "self_label",
    ):
        function = getattr(halsted_ray, name)
        examples = doctest.DocTestParser().get_doctest(inspect.getdoc(function), {}, name, None, 0)
        assert examples.examples, f"{name} shows no example"
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        told: list[str] = []
        assert not runner.run(examples, out=told.append).failed, "".join(told)


@pytest.mark.slow
def test_tables_as_a_ray_dataset_hold_the_same_rows(place, monkeypatch):
    monkeypatch.chdir(place)
    halsted_ray.map_archive("archive", "maps")
    mapped = halsted_ray.open_maps("maps")
    import ray

    ray.init(num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        for table in (mapped.timeline, mapped.vectors):
            assert table.to_ray().count() == table.to_arrow().num_rows > 0
        assert set(mapped.vectors.to_ray().take(1)[0]) >= {"encoder", "sampling", "video_id", "vector"}
    finally:
        ray.shutdown()


@pytest.mark.parametrize(("own", "counts"), [({}, "0"), ({"GOMP_SPINCOUNT": "70"}, "70")])
def test_threads_wait_asleep_unless_the_user_says_otherwise(own, counts):
    """Threads that wait by counting take the core from other processes. The runtime prints what it has read."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    shown = subprocess.run(
        [sys.executable, "-c", "import halsted_ray, torch"],
        capture_output=True,
        text=True,
        check=True,
        env={**environment, "OMP_DISPLAY_ENV": "verbose"} | own,
    ).stderr
    assert f"GOMP_SPINCOUNT = '{counts}'" in shown
