"""Single sign-on: an identity provider in this process, with its own RSA key, over HTTP on loopback."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from base64 import urlsafe_b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from serving import client_of, new_key, open_service, shared_model, shared_video, upload
from sqlalchemy import select
from starlette.testclient import TestClient

from halsted_ray.service.tables import AuditEntry

OWN, FOREIGN = (rsa.generate_private_key(65537, 2048) for _ in range(2))

CODES: dict[str, tuple[str, str]] = {}
"""Code → (challenge, nonce) with which its sign-in began."""


@pytest.fixture(scope="module")
def issuer():
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(OWN.public_key())) | {"kid": "one", "use": "sig"}

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer(
                {
                    "/.well-known/openid-configuration": {
                        "issuer": where,
                        "jwks_uri": f"{where}/keys",
                        "authorization_endpoint": f"{where}/authorize",
                        "token_endpoint": f"{where}/token",
                    },
                    "/keys": {"keys": [public]},
                }[self.path]
            )

        def do_POST(self):
            """The token of a code, for whoever knows the verifier of the challenge with which the sign-in began."""
            form = dict(parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode()))
            challenge, nonce = CODES.pop(form["code"], ("", ""))
            digest = urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
            self.answer({"id_token": sign(claims(where, nonce=nonce))} if digest == challenge else {}, 200)

        def answer(self, found, status=200):
            body = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    where = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield where
    server.shutdown()


@pytest.fixture(scope="module")
def client(issuer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    service = open_service(folder, shared_model(), oidc_issuer=issuer, oidc_audience="halsted")
    new_key(service, "north")
    with client_of(service) as found:
        yield found


def status(client, token: str, path: str = "/v1/videos") -> int:
    return client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code


def claims(issuer, **changes) -> dict:
    now_s = int(time.time())
    return {
        "iss": issuer,
        "aud": "halsted",
        "sub": "ada@example.org",
        "iat": now_s,
        "exp": now_s + 300,
        "halsted_tenant": "north",
        "halsted_role": "reviewer",
        **changes,
    }


def sign(payload: dict, key=OWN, algorithm: str = "RS256", kid: str = "one") -> str:
    return jwt.encode(payload, key, algorithm, headers={"kid": kid})


def test_a_token_identifies_its_user_and_role(client, issuer):
    token = sign(claims(issuer))
    assert status(client, token) == 200 and status(client, token, "/v1/audit") == 403
    assert status(client, sign(claims(issuer, halsted_role="auditor")), "/v1/audit") == 200, "promoted meanwhile"
    assert status(client, token, "/v1/audit") == 403


def test_an_invalid_token_is_refused(client, issuer):
    past_s = int(time.time()) - 3600
    wrong = {
        "another key": sign(claims(issuer), FOREIGN),
        "an unknown key": sign(claims(issuer), FOREIGN, kid="two"),
        "a shared secret": sign(claims(issuer), b"secret" * 8, "HS256"),
        "no signature": sign(claims(issuer), None, "none"),
        "nonsense": "a.b.c",
        "of another issuer": sign(claims("http://127.0.0.1:1")),
    } | {
        name: sign(claims(issuer, **changes))
        for name, changes in {
            "expired": {"exp": past_s},
            "for another service": {"aud": "other"},
            "tenant unknown": {"halsted_tenant": "south"},
            "no tenant": {"halsted_tenant": None},
            "tenant of another kind": {"halsted_tenant": ["north"]},
            "role unknown": {"halsted_role": "owner"},
        }.items()
    }
    assert {name: status(client, token) for name, token in wrong.items()} == dict.fromkeys(wrong, 401)


def test_a_sign_in_at_the_provider_ends_with_a_session(client, issuer):
    nobody = dict.fromkeys(("user", "name", "key_id", "key_expires_s", "tenant", "role", "csrf", "link"))
    assert client.get("/session").json() == {**nobody, "sign_on": True}
    client.cookies.clear()
    away = client.get("/session/sign-on", follow_redirects=False)
    where, asked = urlsplit(away.headers["location"]), dict(parse_qsl(urlsplit(away.headers["location"]).query))
    assert f"{where.scheme}://{where.netloc}{where.path}" == f"{issuer}/authorize" and asked["client_id"] == "halsted"
    assert asked["code_challenge_method"] == "S256" and asked["redirect_uri"] == "http://testserver/session/signed-on"

    def back(code: str, state: str = asked["state"]) -> str:
        answer = client.get("/session/signed-on", params={"code": code, "state": state}, follow_redirects=False)
        assert answer.status_code == 303
        return answer.headers["location"]

    kept = client.cookies["halsted_sign_on"]
    for code, (challenge, nonce), state in (
        ("a", (asked["code_challenge"], asked["nonce"]), "another"),
        ("b", (asked["code_challenge"], "another"), asked["state"]),
        ("c", ("another", asked["nonce"]), asked["state"]),
    ):
        CODES[code] = challenge, nonce
        assert back(code, state).endswith("/#refused") and client.get("/session").json()["user"] is None
        client.cookies.set("halsted_sign_on", kept)
    CODES["d"] = asked["code_challenge"], asked["nonce"]
    assert back("d") == "http://testserver/"
    signed_in = client.get("/session").json()
    assert (signed_in["tenant"], signed_in["role"]) == ("north", "reviewer")
    assert client.get("/v1/videos").status_code == 200
    client.cookies.clear()
    assert back("e").endswith("/#refused"), "nothing began here"


SPOOFED = "Grace\u202e\n<b>Hopper</b>\x00 " + "x" * 300


def test_people_of_a_tenant_see_the_names_of_the_provider_where_a_case_is_shared(client, issuer, caplog):
    """A user is known to the service by the digest of their subject; nobody could find a colleague by it."""
    caplog.set_level("DEBUG")
    service = client.app.state.components
    trainee = {"halsted_role": "trainee"}
    named = {
        "grace": {"name": SPOOFED, "preferred_username": "grace"},
        "alan": {"preferred_username": "alan.turing@example.org"},
        "nobody": {"name": 7, "preferred_username": " \t"},
    }
    for subject, names in named.items():
        assert status(client, sign(claims(issuer, sub=subject, **trainee, **names))) == 200
    headers = {"Authorization": f"Bearer {sign(claims(issuer, halsted_role='surgeon', name='Ada Lovelace'))}"}
    for who, expected in (({}, 401), (headers, 200)):
        assert client.get("/v1/users", headers=who).status_code == expected
    shown = {one["name"]: one["user"] for one in client.get("/v1/users", headers=headers).json()}
    graces = next(name for name in shown if name.startswith("Grace"))
    assert graces == "Grace <b>Hopper</b> " + "x" * 80, "one line, one direction, a bounded length"
    assert "alan.turing@example.org" in shown and "Ada Lovelace" in shown
    (nameless,) = {one for one in shown if one.startswith("oidc-")}
    assert shown[nameless] == nameless, "who has no name there is shown as the service knows them"
    (found,) = client.get("/v1/users", headers=headers, params={"find": "TURING"}).json()
    assert found == {"user": shown["alan.turing@example.org"], "name": "alan.turing@example.org", "role": "trainee"}

    own = TestClient(client.app, headers=headers)
    where = f"/v1/videos/{upload(own, shared_video())['video_id']}"
    body = {"user": shown[graces], "relation": "trainee"}
    made = own.post(f"{where}/shares", json=body).json()
    assert (made["user"], made["name"], made["granted_by_name"]) == (shown[graces], graces, "Ada Lovelace")
    people = own.get(f"{where}/people").json()
    assert people["owner_name"] == "Ada Lovelace" and people["shares"] == [made]
    assert status(client, sign(claims(issuer, sub="grace", **trainee, name="Grace Hopper")), where) == 200
    assert [one["name"] for one in own.get(f"{where}/people").json()["shares"]] == ["Grace Hopper"], "renamed there"

    with service.database.reading() as session:
        entries = [str(vars(entry)) for entry in session.scalars(select(AuditEntry))]
    for name in ("Grace", "Hopper", "Ada Lovelace", "turing"):
        assert not any(name in entry for entry in entries), f"{name} stands in the audit log"
        assert name not in caplog.text, f"{name} stands in the log"
    with client_of(service, new_key(service, "south", "eve", "admin")) as stranger:
        assert [one["user"] for one in stranger.get("/v1/users").json()] == ["eve"], "another tenant's are nobody's"
    with client_of(service, new_key(service, "north", "otto", "reviewer")) as reviewer:
        assert reviewer.get("/v1/users").status_code == 403, "who can't share needs no names"


def test_while_the_provider_does_not_answer_only_keys_are_taken(tmp_path):
    service = open_service(tmp_path, shared_model(), oidc_issuer="http://127.0.0.1:1")
    with client_of(service, new_key(service)) as client:
        assert client.get("/v1/videos").status_code == 200
    with client_of(service) as client:
        assert status(client, sign(claims("http://127.0.0.1:1"))) == 401
