import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from flink_jobs.settings.loading import load_settings
from flink_jobs.submit import cluster


class Rest(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"slots-available": 2}')

    def log_message(self, *_: object) -> None: ...


def test_proxy_is_not_asked_for_the_cluster(monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with HTTPServer(("127.0.0.1", 0), Rest) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        settings = load_settings(None, [f"flink.address=127.0.0.1:{server.server_address[1]}"])
        assert cluster.query_cluster(settings, "/overview") == {"slots-available": 2}
