"""A small API without dependencies: GET / and GET /api/hello?name=..."""

import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlparse(self.path)
        if url.path == "/":
            self.answer(200, {"status": "ok"})
        elif url.path == "/api/hello":
            name = parse_qs(url.query).get("name", ["world"])[0]
            self.answer(200, {"message": f"Hello, {name}!", "served_by": "http.server"})
        else:
            self.answer(404, {"error": "not found"})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def free_port(first=5000):
    for port in range(first, first + 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise SystemExit("no free port")


if __name__ == "__main__":
    port = free_port()
    Path(__file__).with_name("app.port").write_text(str(port))
    ThreadingHTTPServer(("0.0.0.0", port), Api).serve_forever()
