import http.client
import os
import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from coloured_pairs import serving

from winnow.explore.server import serve
from winnow.types import InputError


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, -signal.SIGINT),  # nothing in the script catches the KeyboardInterrupt
        (signal.SIGTERM, 143),
    ],
)
def test_it_serves_on_loopback_until_it_is_stopped(coloured, tmp_path, number, status):
    with serving(coloured, tmp_path) as (process, printed):
        address = urlsplit(printed)
        assert address.hostname == "127.0.0.1"
        # A connection that is kept open does not keep the server.
        connection = http.client.HTTPConnection(address.hostname, address.port)
        connection.request("GET", "/pairs?text=red")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["server"]) == (200, None)
        assert b'"row":' in answer.read()
        process.send_signal(number)
        out, errors = process.communicate(timeout=60)
        connection.close()
    assert out == ""
    assert "Exception" not in errors
    assert process.returncode == status


def test_a_port_that_is_taken_is_said():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="cannot be opened"):
            serve(None, port=taken.getsockname()[1], ready=lambda _: None)
    with pytest.raises(InputError, match="give 0 to 65535"):
        serve(None, port=1 << 16, ready=lambda _: None)


def test_a_missing_library_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(InputError, match=r"pip install 'winnow-clip\[explore\]'"):
        serve(None, port=0, ready=lambda _: None)


@pytest.mark.slow  # starts a process with open_clip
def test_the_whole_command(coloured, tmp_path):
    import torch

    from winnow.models import CustomTowers, TextTransformer, VisionTransformer
    from winnow.models.towers import Towers

    config = CustomTowers(
        embed_dim=16,
        image=VisionTransformer(image_size=16, patch_size=8, width=32, head_width=16, layers=1),
        text=TextTransformer(context_length=8, width=32, heads=2, layers=1),
    )
    torch.manual_seed(0)
    Towers(config).export(tmp_path / "run" / "model")
    # Whoever is started in the background of a script begins with Ctrl-C ignored.
    begin = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    begin += "from winnow.cli import main; main()"
    command = [sys.executable, "-c", begin, "explore", str(coloured), "--selection", "words"]
    command += ["--model", str(tmp_path / "run"), "--cache", str(tmp_path / "cache")]
    with subprocess.Popen(
        [*command, "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    ) as process:
        address = urlsplit(process.stdout.readline().strip())
        connection = http.client.HTTPConnection(address.hostname, address.port)
        connection.request("GET", "/pairs/3")
        assert b'"caption_rank"' in connection.getresponse().read()
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
        connection.close()
    assert (process.returncode, out) == (130, "")
    assert (
        errors.splitlines()[-1] == "winnow: stopped; the same command opens the page again at once"
    )
    assert "Traceback" not in errors


def test_answers_do_not_wait_for_acknowledgements(monkeypatch):
    """asyncio sets TCP_NODELAY on sockets that say that they are TCP, and on no others."""
    seen = []

    class Server:
        def __init__(self, _):
            pass

        def run(self, sockets):
            seen.extend(one.proto for one in sockets)

    monkeypatch.setattr("uvicorn.Server", Server)
    monkeypatch.setattr("winnow.explore.server.make_app", lambda *_, **__: None)
    serve(None, port=0, ready=lambda _: None)
    assert seen == [socket.IPPROTO_TCP]
