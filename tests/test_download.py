"""The registry and the cache: by hash, offline, and never trusting what came."""

import hashlib
import http.server
import os
import re
import shutil
import threading
from collections import namedtuple

import pytest
from click.testing import CliRunner

from sal360.cli import cli, main
from sal360.datasets import download, resume


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAL360_CACHE", str(tmp_path))
    download.available.cache_clear()
    yield tmp_path
    download.available.cache_clear()


@pytest.fixture
def server(monkeypatch):
    """A page on this machine, and a registry of one file that lies there."""
    content = b"a panorama, say"
    right = hashlib.sha256(content).hexdigest()

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/good" else 404)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=host.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("SAL360_OFFLINE", "0")

    def offer(page="good", sha256=right):
        url = f"http://127.0.0.1:{host.server_port}/{page}"
        remote = download.RemoteFile("samples/x.bin", sha256, url, "none")
        monkeypatch.setattr(download, "registry", lambda: {"samples/x.bin": remote})

    yield offer
    host.shutdown()


def test_registry_lines_are_whole():
    files = download.registry()
    assert len(files) > 80
    for name, remote in files.items():
        assert remote.path == name and not name.startswith("/") and ".." not in name
        assert len(remote.sha256) == 64 and remote.url.startswith("https://") and remote.licence


def test_fetches_once_and_keeps(cache, server):
    server()
    path = download.fetch("samples/x.bin")
    assert path == cache / "samples" / "x.bin" and path.read_bytes() == b"a panorama, say"
    server("gone")
    assert download.fetch("samples/x.bin") == path  # not asked for again


def test_a_damaged_file_in_the_cache_is_fetched_again(cache, server):
    server()
    (cache / "samples").mkdir()
    (cache / "samples/x.bin").write_bytes(b"cut")
    assert download.fetch("samples/x.bin").read_bytes() == b"a panorama, say"


def test_a_wrong_hash_is_thrown_away(cache, server):
    server(sha256="0" * 64)
    with pytest.raises(download.DownloadError, match="wrong hash"):
        download.fetch("samples/x.bin")
    assert not (cache / "samples/x.bin").exists()
    assert not download.available("samples/x.bin")


def test_a_missing_page_is_one_line(cache, server):
    server("gone")
    with pytest.raises(download.DownloadError, match="cannot be fetched") as caught:
        download.fetch("samples/x.bin")
    assert "\n" not in str(caught.value)


def test_offline_says_so(cache, monkeypatch):
    monkeypatch.setenv("SAL360_OFFLINE", "1")
    with pytest.raises(download.DownloadError, match="SAL360_OFFLINE"):
        download.fetch("samples/petra.jpg")
    with pytest.raises(ValueError, match="^name: "):
        download.fetch("samples/none.jpg")


CONTENT = bytes(range(256)) * 1200  # a few chunks of the reader


@pytest.fixture
def host(cache, monkeypatch):
    """A server that can be told how to behave; it remembers what it was asked for.

    ``ranges``: whether it knows Range. ``cut``: bytes after which it closes, by request.
    ``answers``: status codes to give first. ``content``: what the page holds.
    """

    class Host(http.server.ThreadingHTTPServer):
        ranges, content, shift = True, CONTENT, 0

        def offer(self, names=("set/x.bin",), sha256=None):
            right = sha256 or hashlib.sha256(CONTENT).hexdigest()
            url = f"http://127.0.0.1:{self.server_port}/"
            files = {n: download.RemoteFile(n, right, url + n, "CC0") for n in names}
            monkeypatch.setattr(download, "registry", lambda: files)

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            host = self.server
            asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
            host.asked.append(int(asked[1]) if asked else None)
            if host.answers:
                self.send_response(host.answers.pop(0))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            first, total = 0, len(host.content)
            if asked and host.ranges:
                first = int(asked[1]) + host.shift
                if first >= total:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{total}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(total - first))
            self.end_headers()
            end = first + host.cut.pop(0) if host.cut else total
            self.wfile.write(host.content[first:end])
            self.close_connection = True

        def log_message(self, *_):
            pass

    host = Host(("127.0.0.1", 0), Page)
    host.asked, host.cut, host.answers = [], [], []
    threading.Thread(target=host.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("SAL360_OFFLINE", "0")
    monkeypatch.setattr(resume, "PAUSE_S", 0.0)
    host.offer()
    yield host
    host.shutdown()
    host.server_close()


def left(cache):
    """Files in the cache, by name."""
    return sorted(p.name for p in cache.rglob("*") if p.is_file())


def test_a_dropped_connection_goes_on_where_it_was(host, cache):
    host.cut = [100_000, 1, 150_000]
    assert download.fetch("set/x.bin").read_bytes() == CONTENT
    assert host.asked[0] is None and len(host.asked) == 4
    assert host.asked[1:] == sorted(host.asked[1:]) and host.asked[1] > 0
    assert left(cache) == ["x.bin"]


def test_a_broken_download_is_resumed_by_the_next_try(host, cache):
    host.cut = [100_000] + [0] * (resume.RETRIES + 1)
    with pytest.raises(download.DownloadError, match=r"goes on after 0\.1 MB") as caught:
        download.fetch("set/x.bin")
    assert "\n" not in str(caught.value)
    waiting = cache / "set" / "x.bin.part"
    have = waiting.stat().st_size
    assert 0 < have <= 100_000 and waiting.read_bytes() == CONTENT[:have]
    assert not (cache / "set" / "x.bin").exists()
    host.asked.clear()
    assert download.fetch("set/x.bin").read_bytes() == CONTENT
    assert host.asked == [have] and left(cache) == ["x.bin"]


def test_ctrl_c_keeps_what_came(host, cache, monkeypatch):
    import requests

    def interrupted(answer, size):
        yield answer.raw.read(5000)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(requests.Response, "iter_content", interrupted)
        with pytest.raises(KeyboardInterrupt):
            download.fetch("set/x.bin")
    assert left(cache) == ["x.bin.part"]
    assert download.fetch("set/x.bin").read_bytes() == CONTENT
    assert host.asked == [None, 5000]


def test_a_server_without_ranges_begins_anew(host, cache):
    host.ranges = False
    (cache / "set").mkdir()
    (cache / "set" / "x.bin.part").write_bytes(CONTENT[:5000])
    assert download.fetch("set/x.bin").read_bytes() == CONTENT
    assert host.asked == [5000]


def test_a_server_without_ranges_that_always_cuts_is_given_up(host):
    host.ranges, host.cut = False, [70_000] * 50
    with pytest.raises(download.DownloadError, match="cannot be fetched"):
        download.fetch("set/x.bin")
    assert len(host.asked) == resume.RETRIES + 2  # the first brings something new


def test_a_server_that_sends_another_part_is_not_believed(host):
    host.shift = 10
    host.cut = [100_000]
    assert download.fetch("set/x.bin").read_bytes() == CONTENT
    assert host.asked[-1] is None


@pytest.mark.parametrize("old", [CONTENT, CONTENT + b"more"])
def test_a_part_that_is_long_enough(host, cache, old):
    (cache / "set").mkdir()
    (cache / "set" / "x.bin.part").write_bytes(old)
    assert download.fetch("set/x.bin").read_bytes() == CONTENT


def test_what_waited_of_another_file_is_not_kept(host, cache):
    (cache / "set").mkdir()
    (cache / "set" / "x.bin.part").write_bytes(b"old" * 1000)
    assert download.fetch("set/x.bin").read_bytes() == CONTENT
    assert host.asked == [3000, None] and left(cache) == ["x.bin"]


def test_a_wrong_hash_leaves_nothing(host, cache):
    host.offer(sha256="0" * 64)
    with pytest.raises(download.DownloadError, match="wrong hash"):
        download.fetch("set/x.bin")
    assert left(cache) == [] and host.asked == [None]


def test_a_busy_server_is_asked_again_and_a_missing_page_is_not(host):
    host.answers = [503, 429]
    assert download.fetch("set/x.bin").read_bytes() == CONTENT
    host.offer(["set/y.bin"])
    host.answers, host.asked = [404, 404], []
    with pytest.raises(download.DownloadError, match="404"):
        download.fetch("set/y.bin")
    assert len(host.asked) == 1
    host.answers = [503] * 20
    with pytest.raises(download.DownloadError, match="503"):
        download.fetch("set/y.bin")


def test_nobody_there_is_one_line_at_once(host, cache, monkeypatch):
    monkeypatch.setattr(resume.time, "sleep", lambda _: pytest.fail("waits for no network"))
    url = f"http://127.0.0.1:{host.server_port}/x"
    host.shutdown()
    host.server_close()
    download.registry()["set/x.bin"] = download.RemoteFile("set/x.bin", "0" * 64, url, "CC0")
    with pytest.raises(download.DownloadError, match="cannot be fetched") as caught:
        download.fetch("set/x.bin")
    assert "\n" not in str(caught.value)


def test_two_at_once_do_not_write_into_one_file(host, cache):
    fcntl = pytest.importorskip("fcntl")
    (cache / "set").mkdir()
    waiting = cache / "set" / "x.bin.part"
    with waiting.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(CONTENT[:1000])
        other.flush()
        assert download.fetch("set/x.bin").read_bytes() == CONTENT
    assert waiting.read_bytes() == CONTENT[:1000]
    assert left(cache) == ["x.bin", "x.bin.part"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_one_line(host, cache):
    (cache / "set").mkdir()
    (cache / "set" / "x.bin.part").symlink_to("/dev/full")
    with pytest.raises(download.DownloadError, match=r"^set/x\.bin: no space left in .*try again"):
        download.fetch("set/x.bin")


def test_a_disk_that_will_be_full_is_told_before(host, monkeypatch):
    space = namedtuple("space", "total used free")(10**6, 10**6, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: space)
    with pytest.raises(download.DownloadError, match="no space left.*0.3 MB to come, 0.0 MB free"):
        download.fetch("set/x.bin")


def test_a_cache_that_cannot_be_written_is_one_line(host, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SAL360_CACHE", str(tmp_path / "file"))
    with pytest.raises(download.DownloadError, match="cannot be kept in .*SAL360_CACHE") as caught:
        download.fetch("set/x.bin")
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("SAL360_CACHE", str(tmp_path / "closed"))
    (tmp_path / "closed" / "set").mkdir(parents=True)
    (tmp_path / "closed" / "set").chmod(0o555)
    if os.access(tmp_path / "closed" / "set", os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(download.DownloadError, match="cannot be kept in .*SAL360_CACHE"):
        download.fetch("set/x.bin")


def test_every_file_has_something_to_cite():
    for name in download.registry():
        found = download.credit(name)
        assert found.title and found.citation and found.citation != "nothing known", name
    assert "Fremerey" in download.credit("avtrack360/images/3.jpg").citation
    assert download.credit("samples/petra.jpg").path == "samples/petra.jpg"
    for path in download.credits():
        assert any(n == path or n.startswith(path + "/") for n in download.registry()), path


def test_command_line_shows_licence_and_citation_before_it_fetches(host, cache, monkeypatch):
    host.offer(["avtrack360/a.bin", "avtrack360/b.bin", "samples/petra.jpg"])
    host.cut = [0] * 20
    run = CliRunner().invoke(cli, ["data", "download", "avtrack360"])
    assert isinstance(run.exception, download.DownloadError)
    assert "CC0" in run.output and "Fremerey" in run.output and "Google" not in run.output
    host.cut, host.asked = [], []
    run = CliRunner().invoke(cli, ["data", "download", "avtrack360", "samples/petra.jpg"])
    assert run.exit_code == 0, run.output
    assert str(cache / "avtrack360" / "b.bin") in run.stdout.splitlines()
    assert "Google" in run.output and len(host.asked) == 3
    run = CliRunner().invoke(cli, ["data", "download", "avtrack360"])
    assert run.exit_code == 0 and len(host.asked) == 3 and "2 files, 2 here" in run.output


def test_command_line_lists_what_is_here(host, cache):
    host.offer(["avtrack360/a.bin", "avtrack360/b.bin", "samples/petra.jpg"])
    download.fetch("avtrack360/a.bin")
    run = CliRunner().invoke(cli, ["data", "list"])
    assert run.exit_code == 0 and str(cache) in run.output
    assert "1 of 2 files here, 0.3 MB" in run.output and "Fremerey" in run.output
    assert "a.bin" not in run.output
    run = CliRunner().invoke(cli, ["data", "list", "--files"])
    lines = run.output.splitlines()
    assert any("here" in x and "avtrack360/a.bin" in x for x in lines)
    assert any("here" not in x and "avtrack360/b.bin" in x for x in lines)


def test_command_line_refuses_in_one_line(host, capsys, monkeypatch):
    assert main(["data", "download", "nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setenv("SAL360_OFFLINE", "1")
    assert main(["data", "download", "set"]) == 2
    assert "SAL360_OFFLINE=1" in capsys.readouterr().err.splitlines()[-1]


def test_a_cache_of_no_user_is_refused_in_one_line(capsys, monkeypatch):
    monkeypatch.setenv("SAL360_CACHE", "~nosuchuser/x")
    assert main(["data", "list"]) == 2
    assert "SAL360_CACHE: '~nosuchuser/x', wanted a folder" in capsys.readouterr().err


@pytest.mark.real
def test_a_read_only_cache_will_do(real):
    path = real("weights/SST_Sal_wo_OF.pth")
    assert download.fetch("weights/SST_Sal_wo_OF.pth") == path
