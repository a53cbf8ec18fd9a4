"""Downloads of checkpoints: only complete and correct files get their name; errors say what else can be done."""

import hashlib
import socket
from pathlib import Path

import pytest
import torch
from file_server import serving

from system import fetch
from system.bin import main
from system.config import DataConfig, EncoderConfig
from system.encoders import cards
from system.encoders.fisher import Fisher
from system.errors import WheeltapperError

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "encoders" / "fisher" / "fisher.pt"
CONTENT = FIXTURE.read_bytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving({"/f.pt": CONTENT}) as server:
        yield server


def a_card(server, path: str = "/f.pt", **changes) -> cards.Card:
    fields = {**vars(cards.CARDS["fisher-tiny"]), "url": server.url + path, "sha256": None, "file": "x.pt", **changes}
    return cards.Card(**fields)


def get(card, folder, **options) -> Path:
    return cards.download(card, folder, pause=0.01, **options)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


@pytest.mark.parametrize("sha256", [None, SHA256])
def test_fetched_checked_and_nothing_to_do_again(tmp_path, server, sha256):
    seen, said = [], []
    path = get(a_card(server, sha256=sha256), tmp_path, progress=lambda *step: seen.append(step), say=said.append)
    assert path.read_bytes() == CONTENT
    assert left(tmp_path) == ["x.pt"]
    assert seen[-1] == ("fisher-tiny", len(CONTENT), len(CONTENT))
    assert get(a_card(server, sha256=sha256), tmp_path, say=said.append) == path
    assert len(server.requests) == 1
    assert said == [f"fisher-tiny: fetching {server.url}/f.pt", f"{path}: complete, nothing to do"]


def test_a_hub_file_by_another_ending_is_opened(tmp_path, server):
    Fisher.build("nano", 0).save(tmp_path / "w.safetensors")
    server.contents["/f.pt"] = (tmp_path / "w.safetensors").read_bytes()
    path = get(a_card(server), tmp_path / "out")
    assert Fisher.load(path).config == Fisher.SIZES["nano"]


def test_a_dead_link_names_the_source_and_the_ways_out(tmp_path, server):
    server.contents = {}
    with pytest.raises(WheeltapperError) as caught:
        get(a_card(server), tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{server.url}/f.pt: download failed (the server answers 404 Not Found); see https://")
    assert all(part in text for part in ("github.com/jianganbai/FISHER", "--checkpoint FILE", "--url URL", "x.pt"))
    assert "\n" not in text
    assert len(server.requests) == 1
    assert left(tmp_path) == []


@pytest.mark.parametrize("kind", ["text/html", "text/html; charset=utf-8"])
def test_a_web_page_is_no_file(tmp_path, server, kind):
    server.contents["/f.pt"], server.types["/f.pt"] = b"<!DOCTYPE html><html>sign in</html>", kind
    with pytest.raises(WheeltapperError, match=r"the server sends a web page instead of the file\); see https"):
        get(a_card(server), tmp_path)
    assert left(tmp_path) == []


def test_a_web_page_that_calls_itself_a_file_is_deleted(tmp_path, server):
    server.contents["/f.pt"] = b"<!DOCTYPE html><html>sign in</html>"
    with pytest.raises(WheeltapperError, match=r"f\.pt: deleted after the download \(damaged, .*; see https"):
        get(a_card(server), tmp_path)
    assert left(tmp_path) == []


def test_a_web_page_does_not_harm_what_was_fetched_before(tmp_path, server):
    server.cut = len(CONTENT) // 5
    with pytest.raises(WheeltapperError, match="stopped after"):
        get(a_card(server), tmp_path)
    server.cut, server.ranges, server.types["/f.pt"] = None, False, "text/html"
    with pytest.raises(WheeltapperError, match="web page"):
        get(a_card(server), tmp_path)
    server.types, server.ranges = {}, True
    assert get(a_card(server), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1] == f"bytes={4 * (len(CONTENT) // 5)}-"


@pytest.mark.parametrize("sha256", ["0" * 64, "00000000"])
def test_another_file_than_the_published_one_is_deleted(tmp_path, server, sha256):
    with pytest.raises(WheeltapperError, match=rf"f\.pt: deleted .*expected SHA-256 0+.*, found {SHA256}"):
        get(a_card(server, sha256=sha256), tmp_path)
    assert left(tmp_path) == []


@pytest.mark.parametrize("sha256", [None, SHA256])
def test_half_a_file_never_passes_for_a_whole_one(tmp_path, server, sha256):
    # Without a length, a closed connection looks like a complete file.
    server.sized, server.cut = False, len(CONTENT) // 2
    with pytest.raises(WheeltapperError, match="deleted after the download"):
        get(a_card(server, sha256=sha256), tmp_path)
    assert left(tmp_path) == []


def test_a_server_that_hangs_up_is_asked_for_the_rest(tmp_path, server):
    server.cut = len(CONTENT) // 3 + 1
    get(a_card(server, sha256=SHA256), tmp_path)
    assert [asked for _, asked in server.requests] == ["", f"bytes={server.cut}-", f"bytes={2 * server.cut}-"]


def test_a_part_is_continued_in_a_later_run(tmp_path, server):
    server.cut = 1000
    with pytest.raises(WheeltapperError, match=rf"stopped after 4000 of {len(CONTENT)} bytes\); see https"):
        get(a_card(server), tmp_path)
    assert not (tmp_path / "x.pt").exists()
    server.cut = None
    get(a_card(server, sha256=SHA256), tmp_path)
    assert server.requests[-1][1] == "bytes=4000-"
    assert left(tmp_path) == ["x.pt"]


def test_a_part_is_not_continued_from_another_address(tmp_path, server):
    server.contents["/other.pt"], server.cut = b"y" * len(CONTENT), 1000
    with pytest.raises(WheeltapperError):
        get(a_card(server, "/other.pt"), tmp_path)
    server.cut = None
    get(a_card(server, "/other.pt", sha256=SHA256), tmp_path, url=f"{server.url}/f.pt")
    assert server.requests[-1] == ("/f.pt", "")
    assert left(tmp_path) == ["x.pt"]


def test_what_was_fetched_but_not_checked_when_killed_is_checked_now(tmp_path, server, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cards, "check", killed)
    with pytest.raises(KeyboardInterrupt):
        get(a_card(server), tmp_path)
    assert not (tmp_path / "x.pt").exists()
    monkeypatch.undo()
    assert get(a_card(server, sha256=SHA256), tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_server_that_never_answers(tmp_path, server, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", 0.1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/f.pt"
        with pytest.raises(WheeltapperError, match=r"download failed \(timed out\); see https"):
            get(a_card(server), tmp_path, url=url)


def test_no_address_and_no_web_address(tmp_path, server):
    with pytest.raises(WheeltapperError, match=r"echo-tiny: expected an address, none is known; see https.*--url URL"):
        get(cards.CARDS["echo-tiny"], tmp_path)
    with pytest.raises(WheeltapperError, match="--url: expected http"):
        get(a_card(server), tmp_path, url="file:///etc/passwd")


def test_a_wrong_file_put_there_by_hand_is_not_touched(tmp_path, server):
    (tmp_path / "x.pt").write_bytes(b"mine")
    with pytest.raises(WheeltapperError, match=r"expected SHA-256 .*; delete it and start again"):
        get(a_card(server, sha256=SHA256), tmp_path)
    assert (tmp_path / "x.pt").read_bytes() == b"mine"
    assert server.requests == []


def test_code_in_a_fetched_file_is_refused(tmp_path, server):
    class Code:
        def __reduce__(self):
            return (tmp_path / "ran").mkdir, ()

    torch.save({"model": Code()}, tmp_path / "bad.pt")
    server.contents["/f.pt"] = (tmp_path / "bad.pt").read_bytes()
    with pytest.raises(WheeltapperError, match="deleted after the download"):
        get(a_card(server), tmp_path / "out")
    assert not (tmp_path / "ran").exists()


# The command.


def test_verb_fetches_and_says_what_it_has(tmp_path, server, monkeypatch, capsys):
    monkeypatch.setitem(cards.CARDS, "fisher-tiny", a_card(server))
    assert main(["download-checkpoint", "fisher-tiny", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "licence not stated, https://github.com/jianganbai/FISHER" in out
    assert f"{tmp_path / 'x.pt'}: SHA-256 {SHA256}, no hash is published" in out
    assert f"next: encoder.checkpoint={tmp_path / 'x.pt'}" in out
    assert main(["download-checkpoint", "--list", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(cards.CARDS)
    assert "in the folder" in next(line for line in lines if line.startswith("fisher-tiny "))
    assert "no address known" in next(line for line in lines if line.startswith("echo-tiny "))


def test_verb_takes_another_address(tmp_path, server):
    assert main(["download-checkpoint", "echo-tiny", "--to", str(tmp_path), "--url", f"{server.url}/f.pt"]) == 0
    assert (tmp_path / cards.CARDS["echo-tiny"].file).read_bytes() == CONTENT


def test_verb_s_mistakes_are_one_line(tmp_path, capsys):
    folder = ["--to", str(tmp_path)]
    assert main(["download-checkpoint", *folder]) == 1
    assert main(["download-checkpoint", "fisher-tny", *folder]) == 1
    assert main(["download-checkpoint", "fisher-tiny", *folder, "--url", "http://127.0.0.1:9/x"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert "expected NAME or --list" in errors[0]
    assert "did you mean fisher-tiny?" in errors[1]
    assert "http://127.0.0.1:9/x: download failed" in errors[2]


def test_the_folder_is_where_recipes_look(tmp_path, server, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(cards.CARDS, "fisher-tiny", a_card(server))
    assert main(["download-checkpoint", "fisher-tiny"]) == 0
    assert (
        cards.checkpoint_file(EncoderConfig("fisher", "tiny", "fisher-tiny"), DataConfig().folder).read_bytes()
        == CONTENT
    )
