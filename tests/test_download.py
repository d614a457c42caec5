"""The registry and the cache: by hash, offline, and never trusting what came."""

import hashlib
import http.server
import threading

import pytest

from sal360.datasets import download


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
    threading.Thread(target=host.serve_forever, daemon=True).start()
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


@pytest.mark.real
def test_a_read_only_cache_will_do(real):
    path = real("weights/SST_Sal_wo_OF.pth")
    assert download.fetch("weights/SST_Sal_wo_OF.pth") == path
