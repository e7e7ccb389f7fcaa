"""What listens in the tests: a server of the standard library that does what servers do, and a WebSocket echo."""
import base64, hashlib, json, os, struct, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

PORT = int(sys.argv[1])


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.02)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, body, status=200, headers=()):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def do_GET(self):
        url = urlparse(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        match url.path:
            case "/":
                self.answer(b"hello", headers=[("Set-Cookie", "app=1; Domain=localhost; Path=/")])
            case "/seen":
                headers = {name.lower(): value for name, value in self.headers.items()}
                self.answer(json.dumps({"path": self.path, "headers": headers}).encode())
            case "/redirect":
                self.answer(b"", 302, [("Location", f"http://localhost:{PORT}/seen?x=1")])
            case "/events":
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.chunk(b"data: first\n\n")
                wait_for("/tmp/" + query["after"])
                self.chunk(b"data: second\n\n")
                self.chunk(b"")
            case "/wait":
                wait_for("/tmp/" + query["after"])
                self.answer(b"waited")
            case "/bytes":
                left = int(query["n"])
                self.send_response(200)
                self.send_header("Content-Length", str(left))
                self.end_headers()
                block = b"x" * 65536
                while left > 0:
                    self.wfile.write(block[:left])
                    left -= len(block)
            case "/die":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"half")
                self.wfile.flush()
                time.sleep(0.2)
                os._exit(1)
            case "/ws":
                self.echo()
            case _:
                self.answer(b"nothing here", 404)

    do_HEAD = do_GET

    def do_POST(self):
        digest, count = hashlib.sha256(), 0

        def take(length):
            nonlocal count
            while length > 0:
                data = self.rfile.read(min(length, 65536))
                digest.update(data)
                count += len(data)
                length -= len(data)

        if self.headers.get("Transfer-Encoding") == "chunked":
            while length := int(self.rfile.readline(), 16):
                take(length)
                self.rfile.readline()
            self.rfile.readline()
        else:
            take(int(self.headers.get("Content-Length", 0)))
        self.answer(json.dumps({"count": count, "sha256": digest.hexdigest()}).encode())

    def echo(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        self.close_connection = True
        while True:
            first, second = self.rfile.read(2)
            length = second & 127
            if length == 126:
                (length,) = struct.unpack(">H", self.rfile.read(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self.rfile.read(8))
            mask = self.rfile.read(4)
            data = bytes(byte ^ mask[index % 4] for index, byte in enumerate(self.rfile.read(length)))
            head = bytes([first, length]) if length < 126 else struct.pack(">BBH", first, 126, length)
            self.wfile.write(head + data)
            self.wfile.flush()
            if first & 15 == 8:
                return


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


Server(("127.0.0.1", PORT), Handler).serve_forever()
