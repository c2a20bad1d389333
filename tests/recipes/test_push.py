"""`winnow push`, against a small hub of our own on loopback that keeps what it is sent."""

import base64
import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

from winnow import cli
from winnow.recipes.export_folder import CARD_FILE, LIST_FILE, list_files
from winnow.recipes.push import Push, run_push
from winnow.types import InputError

KEY = "hf_of_a_test"


class Hub(ThreadingHTTPServer):
    """What create_repo and upload_folder need, with every file small enough to come inline."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.repositories, self.files, self.messages, self.refuses = {}, {}, [], None
        self.url = f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        hub = self.server
        if hub.refuses is not None:
            return self.answer({"error": "not today"}, hub.refuses)
        if self.headers["Authorization"] != f"Bearer {KEY}":
            return self.answer({"error": "Invalid username or password."}, 401)
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            hub.repositories[name] = asked.get("visibility") == "private" or asked.get("private")
            return self.answer({"url": f"{hub.url}/{name}", "id": name})
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            modes = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for one in asked
            ]
            return self.answer({"files": modes})
        assert self.path.endswith("/commit/main")
        for line in body.splitlines():
            part = json.loads(line)
            if part["key"] == "header":
                hub.messages.append(part["value"]["summary"])
            else:
                hub.files[part["value"]["path"]] = base64.b64decode(part["value"]["content"])
        return self.answer({"commitUrl": f"{hub.url}/me/clip/commit/1", "commitOid": "1" * 40})

    def answer(self, values, status=200):
        payload = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


@pytest.fixture
def hub(monkeypatch):
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", KEY)
        yield hub
        hub.shutdown()
        thread.join()


@pytest.fixture
def export(tmp_path):
    folder = tmp_path / "export"
    (folder / "onnx").mkdir(parents=True)
    (folder / CARD_FILE).write_text("---\nlibrary_name: open_clip\n---\n# clip\n")
    (folder / "open_clip_config.json").write_text("{}")
    (folder / "onnx" / "text_model.onnx").write_bytes(b"graph")
    list_files(folder, version="0", differences={"open-clip": {"text embeddings": 0.0}})
    return folder


def test_everything_that_was_exported_arrives_and_nothing_else(hub, export):
    (export / CARD_FILE).write_text("# edited by hand\n")
    (export / "secrets.txt").write_text("mine")
    assert run_push(Push(export=export, to="me/clip")) == f"{hub.url}/me/clip"
    names = {CARD_FILE, LIST_FILE, "open_clip_config.json", "onnx/text_model.onnx"}
    assert hub.files == {name: (export / name).read_bytes() for name in names}
    assert hub.messages == ["Export by winnow 0: open-clip"]
    assert hub.repositories == {"me/clip": None}


def test_a_private_repository_is_asked_for(hub, export):
    run_push(Push(export=export, to="me/clip", private=True))
    assert hub.repositories == {"me/clip": True}


def without(name):
    return lambda folder: (folder / name).unlink()


def changed(name):
    return lambda folder: (folder / name).write_text("{ }")


def elsewhere(folder):
    listed = json.loads((folder / LIST_FILE).read_text())
    listed["files"]["../outside"] = {"bytes": 6, "sha256": "0"}
    (folder / LIST_FILE).write_text(json.dumps(listed))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without(LIST_FILE), "is no export (winnow_export.json is missing)"),
        (without("onnx/text_model.onnx"), "onnx/text_model.onnx is missing or not as it was"),
        (without(CARD_FILE), "README.md is missing or not as it was"),
        (changed("open_clip_config.json"), "open_clip_config.json is missing or not as it was"),
        (elsewhere, "../outside is missing or not as it was"),
    ],
)
def test_what_is_not_a_whole_export_is_not_sent(spoil, message, hub, export):
    spoil(export)
    with pytest.raises(InputError) as refused:
        run_push(Push(export=export, to="me/clip"))
    assert message in str(refused.value)
    assert hub.repositories == {}


@pytest.mark.parametrize("name", ["clip", "me/", "a/b/c", "me/c lip", "me/a..b"])
def test_a_name_that_no_hub_takes(name, hub, export):
    with pytest.raises(InputError, match="--to"):
        run_push(Push(export=export, to=name))
    assert hub.repositories == {}


def test_without_a_token_it_says_how_to_get_one(hub, export, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(InputError, match="me/clip was not uploaded: the hub does not know you"):
        run_push(Push(export=export, to="me/clip"))


def test_what_the_hub_refuses_is_told_in_one_line(hub, export):
    hub.refuses = 403
    with pytest.raises(InputError, match=r"me/clip was not uploaded: .*403") as refused:
        run_push(Push(export=export, to="me/clip"))
    assert "\n" not in str(refused.value)


def test_without_a_network_it_says_so(hub, export, monkeypatch):
    with socket.socket() as taken:
        # Bound and not listening: nobody answers.
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        with pytest.raises(InputError, match=f"{url} cannot be reached"):
            run_push(Push(export=export, to="me/clip"))


def test_where_the_network_is_switched_off_it_says_so(hub, export, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="cannot be reached"):
        run_push(Push(export=export, to="me/clip"))
    assert hub.repositories == {}


def test_the_command_says_where_it_is(hub, export, capsys):
    assert cli.run(["push", str(export), "--to", "me/clip"]) == 0
    assert capsys.readouterr().out == f"uploaded: {hub.url}/me/clip\n"
    assert cli.run(["push", str(export / "onnx"), "--to", "me/clip"]) == 2


@pytest.mark.slow
def test_a_process_of_its_own_finds_the_hub_by_its_environment(hub, export):
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": KEY, "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "winnow", "push", str(export), "--to", "me/clip"]
    done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    assert done.stdout == f"uploaded: {hub.url}/me/clip\n"
    assert "onnx/text_model.onnx" in hub.files
