"""A local web server for tests of downloads."""

import contextlib
import http.server
import re
import threading
from collections.abc import Iterator


class Server(http.server.ThreadingHTTPServer):
    """Serves ``contents``, bytes by path.

    ``cut`` bytes and then it hangs up; ``ranges`` says whether it can go on later; ``failures`` answers of 503 come
    first; ``sized`` says whether it tells the length; ``types`` are content types by path. ``requests`` keeps what was
    asked, path and range.
    """

    def __init__(self, contents: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.contents, self.ranges, self.cut, self.failures, self.requests = contents, True, None, 0, []
        self.sized, self.types = True, {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range", "")
        server.requests.append((self.path, asked))
        if server.failures:
            server.failures -= 1
            return self.send_error(503)
        if self.path not in server.contents:
            return self.send_error(404)
        data = server.contents[self.path]
        begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.ranges else 0
        if begin >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        if server.sized:
            self.send_header("Content-Length", str(len(data) - begin))
        if self.path in server.types:
            self.send_header("Content-Type", server.types[self.path])
        self.end_headers()
        end = len(data) if server.cut is None else min(len(data), begin + server.cut)
        self.wfile.write(data[begin:end])


@contextlib.contextmanager
def serving(contents: dict[str, bytes]) -> Iterator[Server]:
    server = Server(contents)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
