"""Bytes on a socket: what a proxy and we could read differently, slow clients, many streams.

The table is the answer to each request: the status codes that come back, and whether the connection
is closed behind them. Two answers to one request would be smuggling."""

import json
import re
import socket
import time

import pytest

H = b"Host: localhost\r\n"
POST = b"POST /v1/jobs HTTP/1.1\r\n" + H
SECOND = b"GET /livez HTTP/1.1\r\n" + H + b"\r\n"

# Lengths that are no numbers are answered by libmicrohttpd itself, which before 1.0 sends the head
# of its answer twice and closes.
TWICE = {400: ([400], [400, 400]), 413: ([413], [413, 413])}

TABLE = [
    ("a plain request", b"GET /livez HTTP/1.1\r\n" + H + b"\r\n", [200], "open"),
    ("two pipelined requests", SECOND + SECOND, [200, 200], "open"),
    ("HTTP/1.0", b"GET /livez HTTP/1.0\r\n\r\n", [200], "closed"),
    ("no Host", b"GET /livez HTTP/1.1\r\n\r\n", [400], "closed"),
    ("two Hosts", b"GET /livez HTTP/1.1\r\n" + H + b"Host: b\r\n\r\n", [400], "closed"),
    ("a foreign Host", b"GET /livez HTTP/1.1\r\nHost: evil.example\r\n\r\n", [421], "open"),
    ("Content-Length and chunks", POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
     b"5\r\nhello\r\n0\r\n\r\n" + SECOND, [400], "closed"),
    ("two lengths", POST + b"Content-Length: 5\r\nContent-Length: 38\r\n\r\nhello" + SECOND,
     [400], "closed"),
    ("a length with a comma", POST + b"Content-Length: 5, 6\r\n\r\nhello", TWICE[400], "closed"),
    ("a length with a sign", POST + b"Content-Length: +5\r\n\r\nhello", TWICE[400], "closed"),
    ("a negative length", POST + b"Content-Length: -1\r\n\r\nhello", TWICE[400], "closed"),
    ("a length with letters", POST + b"Content-Length: 5abc\r\n\r\nhello", TWICE[400], "closed"),
    ("a length out of range", POST + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
     TWICE[413], "closed"),
    ("gzip before chunked", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
     [400], "closed"),
    ("an unknown coding", POST + b"Transfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
     [400], "closed"),
    ("chunks in HTTP/1.0", b"POST /v1/jobs HTTP/1.0\r\n" + H +
     b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", [400], "closed"),
    ("a chunk size 0x5", POST + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
     [400], "closed"),
    ("a chunk size that overflows", POST + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n"
     b"hello\r\n0\r\n\r\n", [413], "closed"),
    ("a blank before the colon of a length", POST + b"Content-Length : 5\r\n\r\nhello" + SECOND,
     [400], "closed"),
    ("a blank before the colon of a coding", POST + b"Transfer-Encoding : chunked\r\n\r\n"
     b"5\r\nhello\r\n0\r\n\r\n", [400], "closed"),
    ("a bare CR in a value", b"GET /livez HTTP/1.1\r\n" + H + b"X-A: b\rX-B: c\r\n\r\n",
     [400], "closed"),
    ("a NUL in the method", b"G\0T /livez HTTP/1.1\r\n" + H + b"\r\n", [400], "closed"),
    ("an unknown method", b"BREW /livez HTTP/1.1\r\n" + H + b"\r\n", [400], "closed"),
    ("HTTP/1.9", b"GET /livez HTTP/1.9\r\n" + H + b"\r\n", [400], "closed"),
    ("a space in the URI", b"GET /li vez HTTP/1.1\r\n" + H + b"\r\n", [400], "closed"),
    ("a NUL in the path", b"GET /v1/models/a%00b HTTP/1.1\r\n" + H + b"\r\n", [400], "open"),
    ("an encoded way up", b"GET /ui/..%2f..%2fetc%2fpasswd HTTP/1.1\r\n" + H + b"\r\n", [404], "open"),
    ("line ends in a query", b"GET /v1/jobs?state=a%0d%0aSet-Cookie:%20y=1 HTTP/1.1\r\n" + H +
     b"\r\n", [400], "open"),
    ("a header of 80 K", b"GET /livez HTTP/1.1\r\n" + H + b"X-A: " + b"a" * 80000 + b"\r\n\r\n",
     [431], "closed"),
    ("a URI of 80 K", b"GET /" + b"a" * 80000 + b" HTTP/1.1\r\n" + H + b"\r\n", [414], "closed"),
    ("a body on a GET", b"GET /livez HTTP/1.1\r\n" + H + b"Content-Length: 5\r\n\r\nhello" + SECOND,
     [400, 200], "open"),
    ("a body over the limit", b"PUT /v1/models/a HTTP/1.1\r\n" + H +
     b"Content-Length: 99999999999\r\n\r\n" + SECOND, [413], "closed"),
]


def dial(daemon):
    return socket.create_connection(("127.0.0.1", daemon.port))


def talk(daemon, raw, seconds=0.4):
    """All that comes back until the end of the connection or `seconds` of silence."""
    with dial(daemon) as s:
        s.settimeout(seconds)
        answer = b""
        try:
            s.sendall(raw)
            while True:
                piece = s.recv(65536)
                if piece == b"":
                    return answer, "closed"
                answer += piece
        except socket.timeout:
            return answer, "open"
        except (ConnectionResetError, BrokenPipeError):
            return answer, "closed"


def codes(answer):
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    from conftest import Daemon
    daemon = Daemon(tmp_path_factory.mktemp("raw"))
    yield daemon
    daemon.finish()


@pytest.mark.parametrize("raw, expected, end", [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_table(shared, raw, expected, end):
    answer, seen = talk(shared, raw)
    wanted = expected if isinstance(expected, tuple) else (expected,)
    assert codes(answer) in wanted and seen == end, answer[:600]
    assert shared.get("/livez").status == 200


def test_refusals_are_problems(shared):
    answer, _ = talk(shared, POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello")
    head, body = answer.split(b"\r\n\r\n", 1)
    problem = json.loads(body)
    assert problem["code"] == "bad_request"
    assert "more than one Content-Length" in problem["detail"]
    assert b"application/problem+json" in head
    assert problem["request_id"].encode() in head


def test_a_slow_header_is_reaped(start_daemon):
    daemon = start_daemon("--header_timeout_s", "1")
    slow = [dial(daemon) for _ in range(20)]
    for s in slow:
        s.sendall(b"GET /livez HTTP/1.1\r\nX-A: ")
        s.settimeout(10)
    began = time.monotonic()
    for _ in range(3):
        time.sleep(0.3)
        for s in slow:
            try:
                s.sendall(b"a")  # keeps any idle timer from running out
            except OSError:
                pass
    assert daemon.get("/livez").status == 200
    for s in slow:
        try:
            assert s.recv(100) == b""
        except ConnectionResetError:
            pass
        s.close()
    assert time.monotonic() - began < 6
    assert re.search(r"shrinkd_http_reaped_total (2\d|19)\n", daemon.get("/metrics").body.decode())


def test_a_slow_body_is_reaped_and_leaves_nothing(start_daemon):
    daemon = start_daemon("--min_body_rate", "1MiB")
    with dial(daemon) as s:
        s.settimeout(30)
        s.sendall(b"PUT /v1/models/slow HTTP/1.1\r\n" + H + b"Content-Length: 1000000\r\n\r\n")
        began = time.monotonic()
        try:
            while time.monotonic() - began < 25:
                s.sendall(b"x")
                time.sleep(0.5)
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert 9 < time.monotonic() - began < 20
    assert daemon.get("/v1/models/slow").status == 404
    assert daemon.get("/v1/storage").json()["blobs"] == 0


def test_a_cut_upload_leaves_nothing(daemon):
    with dial(daemon) as s:
        s.sendall(b"PUT /v1/models/cut HTTP/1.1\r\n" + H + b"Content-Length: 1000000\r\n\r\n" +
                  b"x" * 500000)
        time.sleep(0.3)
    deadline = time.monotonic() + 5
    while not any("cut by client" in line for line in daemon.lines) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert daemon.get("/v1/models/cut").status == 404
    assert daemon.get("/v1/storage").json()["blobs"] == 0


def test_twenty_streams_and_the_server_still_answers(start_daemon):
    daemon = start_daemon("--max_streams", "20")
    streams = [dial(daemon) for _ in range(20)]
    for s in streams:
        s.settimeout(5)
        s.sendall(b"GET /v1/events HTTP/1.1\r\n" + H + b"\r\n")
    for s in streams:
        answer = b""
        while b"retry:" not in answer:
            answer += s.recv(4096)
        assert b"text/event-stream" in answer and b"X-Accel-Buffering: no" in answer
    assert daemon.get("/livez").status == 200
    refused = daemon.get("/v1/events")
    assert refused.status == 503 and refused.headers["Retry-After"]
    for s in streams:
        s.close()
    began = time.monotonic()
    assert daemon.stop() == 0  # clients that went away do not hold it up
    assert time.monotonic() - began < 10


def test_head_has_the_headers_of_get_and_no_body(shared):
    get, _ = talk(shared, b"GET /v1 HTTP/1.1\r\n" + H + b"\r\n")
    head, _ = talk(shared, b"HEAD /v1 HTTP/1.1\r\n" + H + b"\r\n")

    def lines(answer):
        varies = (b"Date:", b"X-Request-Id:")
        return sorted(line for line in answer.split(b"\r\n\r\n")[0].split(b"\r\n")
                      if not line.startswith(varies))

    assert head.endswith(b"\r\n\r\n") and head.count(b"\r\n\r\n") == 1
    assert lines(head) == lines(get)
