"""A small API: GET / and GET /api/hello?name=..."""

import socket
from pathlib import Path

from flask import Flask, jsonify, request

app = Flask(__name__)


@app.get("/")
def index():
    return jsonify(status="ok")


@app.get("/api/hello")
def hello():
    return jsonify(message=f"Hello, {request.args.get('name', 'world')}!", served_by="Flask")


def free_port(first=5000):
    for port in range(first, first + 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise SystemExit("no free port")


if __name__ == "__main__":
    port = free_port()
    Path(__file__).with_name("app.port").write_text(str(port))
    app.run(host="0.0.0.0", port=port)
