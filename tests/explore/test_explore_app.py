import asyncio
import io
import shutil
import struct
import zlib
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from coloured_pairs import COLOURS, HOSTILE, PAIRS, explorer, picture, shade
from PIL import Image
from starlette.testclient import TestClient

from winnow.explore import app as app_module
from winnow.explore.app import make_app
from winnow.explore.guard import HEADERS, POLICY

PORT = 8123
HERE = f"http://127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def explored(coloured, tmp_path_factory):
    return explorer(coloured, tmp_path_factory.mktemp("features"))


@pytest.fixture
def client(explored):
    # What is raised inside is an answer of 500 here, as it would be to a browser.
    return TestClient(make_app(explored, port=PORT), HERE, raise_server_exceptions=False)


def rows(client, **parameters):
    answer = client.get("/pairs", params=parameters)
    assert answer.status_code == 200, answer.text
    return [pair["row"] for pair in answer.json()["pairs"]]


def order_of(rgb):
    """The rows by the literal cosine with a colour."""

    def cosine(row):
        a, b = np.array(shade(row)) - 110.0, np.array(rgb) - 110.0
        return float(a @ b) / float(np.sqrt((a @ a) * (b @ b)))

    return sorted(range(len(PAIRS)), key=lambda row: (-cosine(row), row))


@pytest.mark.parametrize("colour", COLOURS)
def test_a_text_finds_pictures_in_the_order_of_their_cosines(client, colour):
    assert rows(client, text=f"something {colour}") == order_of(COLOURS[colour])


def test_a_picture_finds_its_neighbours(client):
    found = client.get("/pairs", params={"like": "4"}).json()
    assert [pair["row"] for pair in found["pairs"]] == order_of(shade(4))
    assert found["pairs"][0]["row"] == 4
    assert found["pairs"][0]["cosine"] == pytest.approx(1)


def test_a_picture_that_is_handed_in_finds_what_looks_like_it(client):
    rgb = (200, 210, 40)
    token = client.post("/uploads", content=picture(rgb, kind="BMP")).json()["token"]
    assert rows(client, upload=token) == order_of(rgb)
    shown = client.get(f"/uploads/{token}")
    assert shown.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(shown.content)).size == (24, 16)


def test_filters_hold_for_any_query(client):
    for query in ({}, {"text": "red"}, {"like": "2"}):
        everything = rows(client, **query)
        assert sorted(everything) == list(range(9))
        dropped = [row for row in everything if row in (6, 8)]
        assert rows(client, show="dropped", **query) == dropped
        assert rows(client, reason="caption-too-short", **query) == dropped
        kept = [row for row in everything if row not in (6, 8)]
        assert rows(client, show="kept", **query) == kept
        assert rows(client, show="error", **query) == []
        assert rows(client, reason="caption-url", **query) == []  # the second reason


def test_pages_follow_each_other(client, monkeypatch):
    monkeypatch.setattr("winnow.explore.answers.PAGE_SIZE", 4)
    whole = order_of(COLOURS["blue"])
    pages = [client.get("/pairs", params={"text": "blue", "page": n}).json() for n in (1, 2, 3, 4)]
    assert [[pair["row"] for pair in page["pairs"]] for page in pages] == [
        *(whole[:4], whole[4:8], whole[8:], [])
    ]
    assert {(page["total"], page["pages"]) for page in pages} == {(9, 3)}
    assert [page["first"] for page in pages] == [1, 5, 9, 13]


def test_the_order_by_own_caption_begins_with_the_swapped_one(client):
    assert rows(client, order="cosine")[0] == 4
    own = [pair["own_cosine"] for pair in client.get("/pairs?order=cosine").json()["pairs"]]
    assert own == sorted(own)


def test_belief_orders_what_an_audit_measured(explored):
    from dataclasses import replace

    belief = np.array([0.9, 0.8, np.nan, 0.7, 0.01, 0.9, np.nan, 0.3, 0.5])
    pairs = replace(explored.pairs, audit={"own_probability": belief})
    client = TestClient(make_app(replace(explored, pairs=pairs), port=PORT), HERE)
    assert rows(client, order="belief") == [4, 7, 8, 3, 1, 0, 5, 2, 6]
    found = client.get("/pairs?order=belief").json()["pairs"]
    assert [pair["audit"]["own_probability"] for pair in found][-2:] == [None, None]
    assert '<option value="belief">' in client.get("/").text


def test_of_a_query_belief_rearranges_the_nearest(explored, monkeypatch):
    from dataclasses import replace

    monkeypatch.setattr("winnow.explore.answers.NEAR", 3)
    belief = np.linspace(1, 0, 9)
    pairs = replace(explored.pairs, audit={"own_probability": belief})
    client = TestClient(make_app(replace(explored, pairs=pairs), port=PORT), HERE)
    nearest = order_of(COLOURS["red"])[:3]
    assert rows(client, text="red", order="belief") == sorted(nearest, reverse=True)


def test_without_an_audit_belief_is_not_offered(client):
    answer = client.get("/pairs?order=belief")
    assert answer.status_code == 400
    assert "no audit" in answer.json()["error"]
    assert "belief" not in client.get("/").text


def test_the_details_of_a_pair(client):
    found = client.get("/pairs/4").json()
    assert (found["key"], found["caption"], found["outcome"]) == ("p04", "a cyan square", "kept")
    assert (found["width"], found["height"], found["format"]) == (24, 16, "png")
    # A red picture with the caption of a cyan one: every other caption is nearer.
    assert found["caption_rank"] == {"rank": 8, "of": 8}
    assert found["better"][0]["caption"] == "a red square"
    assert not any(one["is_own"] for one in found["better"])
    assert [one["row"] for one in found["nearest"]] == [r for r in order_of(shade(4)) if r != 4]
    assert [one["rule"] for one in found["rules"]] == ["caption-length", "caption-url"]
    dropped = client.get("/pairs/6").json()
    assert dropped["reasons"] == ["caption-too-short", "caption-url"]
    length = dropped["rules"][0]
    assert (length["says"], length["why"]) == ("drops", "caption-too-short")
    assert length["measures"][0] == {"name": "words", "value": 1, "least": 2, "most": 256}
    assert client.get("/pairs/0").json()["caption_rank"] == {"rank": 1, "of": 8}


def test_pictures_are_what_was_drawn_encoded_anew(client, coloured):
    for row in range(9):
        for name in ("thumbnails", "pictures"):
            answer = client.get(f"/{name}/{row}")
            assert answer.headers["content-type"] == "image/webp"
            assert answer.headers["x-content-type-options"] == "nosniff"
            image = Image.open(io.BytesIO(answer.content))
            assert (image.format, image.size) == ("WEBP", (24, 16))
            np.testing.assert_allclose(np.asarray(image).mean((0, 1)), shade(row), atol=12)


def test_captions_come_as_text_and_never_into_the_page(client):
    found = client.get("/pairs/7")
    assert found.headers["content-type"] == "application/json"
    assert found.json()["caption"] == HOSTILE.replace("\u202e", "⟨U+202E⟩")
    for address in ("/", "/page.js", "/page.css"):
        assert "alert(" not in client.get(address).text
    script = client.get("/page.js").text
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in script


def test_names_are_escaped_in_the_page(explored):
    from dataclasses import replace

    summary = replace(explored.pairs.summary, selection=HOSTILE)
    hostile = replace(explored, pairs=replace(explored.pairs, summary=summary))
    page = TestClient(make_app(hostile, port=PORT), HERE).get("/").text
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize(
    "address", ["/", "/page.js", "/pairs", "/pairs/99", "/nothing", "/thumbnails/0"]
)
def test_every_answer_is_fenced_in(client, address):
    answer = client.get(address)
    for name, value in HEADERS:
        assert answer.headers.get_list(name) == [value]
    assert "default-src 'none'" in POLICY
    assert "unsafe" not in POLICY
    assert "access-control-allow-origin" not in answer.headers


TRICKS = [
    *("..", "../..", "../../../../etc/passwd", "%2e%2e", "%2e%2e%2fetc%2fpasswd", "..%2f..%2fetc"),
    *("/etc/passwd", "%2fetc%2fpasswd", "//etc/passwd", "..\\..\\x", "%5c..%5cx"),
    *("file:///etc/passwd", "0%00", "0%00.png", "%00", "0/../1", "0/..", "0/.", "0.png", "0;1"),
    *("0%0a", "0%20", "%30%30", "-1", "+1", "1e0", "0x1", "00", "1_0", "%D9%A1", "9", "999999999"),
    *("9" * 40, "9" * 6000, "NaN", "", "%ff", "~root", "$HOME", "{row}", "%2525"),
]


def asked_for(app, target):
    """(Status, body) of a GET whose target comes as it stands: a client would tidy it up before."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": unquote(target),  # as uvicorn does
        "raw_path": target.encode(),
        "query_string": b"",
        "headers": [(b"host", f"127.0.0.1:{PORT}".encode())],
        "scheme": "http",
        "http_version": "1.1",
        "root_path": "",
        "server": ("127.0.0.1", PORT),
        "client": ("127.0.0.1", 1),
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent)


@pytest.mark.parametrize(
    "under", ["/thumbnails/", "/pictures/", "/pairs/", "/uploads/", "/page.js/"]
)
def test_no_address_is_a_path(explored, under):
    app = make_app(explored, port=PORT)
    found = {trick: asked_for(app, under + trick) for trick in TRICKS}
    served = {trick: status for trick, (status, _) in found.items() if status not in (404, 410)}
    assert served == {}
    assert not any(b"root:" in body for _, body in found.values())


def test_no_address_is_outside(explored):
    app = make_app(explored, port=PORT)
    found = {trick: asked_for(app, f"/{trick}")[0] for trick in TRICKS if trick}
    assert set(found.values()) == {404}
    # What these tests rest on: the same way leads to a row that is there.
    assert asked_for(app, "/thumbnails/%30")[0] == 200


@pytest.mark.parametrize(
    "parameters",
    [
        *("like=-1", "like=9", "like=" + "9" * 6000, "page=x", "text=a&text=b", "text=a&like=1"),
        *("show=../..", "order=;", "upload=../../etc/passwd", "text=" + "x" * 5000),
    ],
)
def test_no_query_breaks_the_server(client, parameters):
    answer = client.get(f"/pairs?{parameters}")
    assert answer.status_code == 400
    assert answer.json()["error"]


@pytest.mark.parametrize("text", ["\0", "\ud800".encode("utf-8", "surrogatepass"), "%", "é" * 100])
def test_any_words_can_be_asked_for(client, text):
    assert len(rows(client, text=text)) == 9


@pytest.mark.parametrize(
    ("headers", "is_served"),
    [
        ({}, True),
        ({"host": f"localhost:{PORT}"}, True),
        ({"host": "127.0.0.1"}, False),
        ({"host": f"127.0.0.1:{PORT + 1}"}, False),
        ({"host": f"evil.example:{PORT}"}, False),
        ({"host": f"127.0.0.1.evil.example:{PORT}"}, False),
        ({"host": ""}, False),
        ({"origin": HERE}, True),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": f"https://127.0.0.1:{PORT}"}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, False),
        ({"sec-fetch-site": "same-site"}, False),
    ],
)
def test_other_sites_get_nothing(client, headers, is_served):
    for address in ("/pairs", "/thumbnails/0"):
        answer = client.get(address, headers=headers)
        assert answer.status_code == (200 if is_served else 403)
    assert client.post("/uploads", content=b"", headers=headers).status_code == (
        415 if is_served else 403
    )


def test_a_link_from_elsewhere_leads_to_the_page_alone(client):
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/?text=red", headers=link).status_code == 200
    assert client.get("/pairs", headers=link).status_code == 403
    assert client.post("/uploads", headers=link, content=b"x").status_code == 403


def bomb():
    """A png of a few bytes that says it has 60,000 x 60,000 pixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(b"\0" * 10_000)) + chunk(b"IEND", b"")


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.mark.parametrize(
    "data", [b"", b"<html>", SVG, bomb(), b"\xff\xd8\xff" + b"\0" * 99, b"%PDF-1.4"]
)
def test_what_is_no_picture_is_refused(client, data):
    answer = client.post("/uploads", content=data)
    assert answer.status_code == 415
    assert answer.json()["error"]


def test_uploads_are_bounded(client, monkeypatch):
    monkeypatch.setattr(app_module, "MOST_UPLOAD", 1000)
    data = picture((1, 2, 3))
    assert client.post("/uploads", content=data + b"\0" * (1000 - len(data))).status_code == 201

    def parts():
        yield data
        yield b"\0" * 1000
        raise AssertionError("nobody reads on")

    assert client.post("/uploads", content=data + b"\0" * 1000).status_code == 413


def test_the_last_uploads_are_kept(explored):
    from dataclasses import replace

    from winnow.explore.pictures import Uploads

    client = TestClient(make_app(replace(explored, uploads=Uploads(most=2)), port=PORT), HERE)
    post = lambda n: client.post("/uploads", content=picture((n, n, n))).json()["token"]  # noqa: E731
    first, second = post(1), post(2)
    assert client.get(f"/pairs?upload={first}").status_code == 200  # asked for: the newer one now
    third = post(3)
    status = [client.get(f"/pairs?upload={one}").status_code for one in (first, second, third)]
    assert status == [200, 410, 200]
    assert "hand it in again" in client.get(f"/uploads/{second}").json()["error"]


def test_a_shard_that_is_gone_leaves_the_rest(tmp_path):
    from coloured_pairs import curate, write_shards

    out = curate(write_shards(tmp_path / "raw"), tmp_path / "curated")
    client = TestClient(make_app(explorer(out, tmp_path / "cache"), port=PORT), HERE)
    Path(tmp_path / "raw" / "00000.tar").unlink()
    assert client.get("/thumbnails/0").status_code == 404
    assert client.get("/thumbnails/6").status_code == 200
    assert client.get("/pairs/0").json()["rules"][0]["says"] == "keeps"
    assert len(rows(client, text="red")) == 9


def test_a_picture_that_is_another_one_now_is_not_shown(tmp_path):
    """Its features are kept from before, and would stand beside it."""
    from coloured_pairs import curate, write_shards

    out = curate(write_shards(tmp_path / "raw"), tmp_path / "curated")
    explorer(out, tmp_path / "cache")
    others = [(key, "green" if key == "p00" else colour, text) for key, colour, text in PAIRS]
    shutil.rmtree(tmp_path / "raw")
    write_shards(tmp_path / "raw", pairs=others)
    client = TestClient(make_app(explorer(out, tmp_path / "cache"), port=PORT), HERE)
    statuses = [client.get(f"/thumbnails/{row}").status_code for row in (0, 1)]
    assert statuses == [404, 200]
