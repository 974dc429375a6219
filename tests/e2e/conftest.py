"""The real daemon on a free port with a state folder of its own, and the example inputs."""

import http.client
import json
import os
import pathlib
import queue
import re
import signal
import subprocess
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SHRINKD_BUILD", ROOT / "build"))
MODELS = ROOT / "examples" / "models"
FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


class Daemon:
    """A shrinkd process. It may be stopped, killed and started again on the same state."""

    def __init__(self, state, *options):
        self.state, self.options = state, options
        self.lines = []
        self.port = None
        self.process = None
        self.start()

    def start(self):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SHRINKD_")}
        self.process = subprocess.Popen(
            [BUILD / "shrinkd", "--listen", "127.0.0.1:0", "--state-dir", self.state, *self.options],
            stderr=subprocess.PIPE, text=True, env=environment)
        ready = queue.Queue()
        self.reader = threading.Thread(target=self._read, args=(self.process, ready), daemon=True)
        self.reader.start()
        try:
            self.port = ready.get(timeout=60)
        except queue.Empty:
            self.port = None
        assert self.port, "shrinkd did not start:\n" + "\n".join(self.lines[-20:])

    def _read(self, process, ready):
        for line in process.stderr:
            self.lines.append(line.rstrip())
            found = re.search(r"listening on 127\.0\.0\.1:(\d+)", line)
            if found:
                ready.put(int(found.group(1)))
        ready.put(None)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def stop(self):
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=90)

    def finish(self):
        """Stops it if it runs; no sanitizer may have had anything to say, not even at the end."""
        if self.process.poll() is None:
            self.stop()
        self.reader.join(10)
        told = [line for line in self.lines if "Sanitizer" in line or "runtime error" in line]
        # memory that there is not: the daemon gets NULL, as it would without the sanitizer
        told = [line for line in told if "AddressSanitizer failed to allocate" not in line]
        assert not told, "\n".join(self.lines[-60:])

    def kill(self):
        self.process.kill()
        self.process.wait()

    def request(self, method, path, body=None, headers=None, timeout=120):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def put_model(self, name, path):
        return self.request("PUT", f"/v1/models/{name}", pathlib.Path(path).read_bytes())

    def put_dataset(self, name, path, query=""):
        return self.request("PUT", f"/v1/datasets/{name}{query}", pathlib.Path(path).read_bytes())

    def submit(self, spec, **headers):
        answer = self.request("POST", "/v1/jobs", spec, headers)
        assert answer.status == 202, answer.body
        return answer.json()["id"]

    def wait(self, job, seconds=240):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            view = self.get(f"/v1/jobs/{job}?wait=20s").json()
            if view["state"] not in ("queued", "running"):
                return view
        raise AssertionError(f"{job} is still {view['state']}: {view}")

    def ctl(self, *words, **more):
        return subprocess.run(
            [BUILD / "clients" / "cli" / "shrinkctl", "--server", self.url, *map(str, words)],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=240, **more)


@pytest.fixture
def start_daemon(tmp_path):
    """start_daemon(*options): a daemon that lives as long as the test."""
    made = []

    def start(*options, state=None):
        made.append(Daemon(state or tmp_path / f"state-{len(made)}", *options))
        return made[-1]

    yield start
    for daemon in made:
        daemon.finish()


@pytest.fixture
def daemon(start_daemon):
    return start_daemon()


@pytest.fixture(scope="session")
def fashion(tmp_path_factory):
    """The Fashion-MNIST test images as npz, all and the first 500 of them."""
    import gzip

    import numpy

    with gzip.open(FASHION / "t10k-images-idx3-ubyte.gz") as file:
        images = numpy.frombuffer(file.read()[16:], numpy.uint8).reshape(-1, 28, 28)
    with gzip.open(FASHION / "t10k-labels-idx1-ubyte.gz") as file:
        labels = numpy.frombuffer(file.read()[8:], numpy.uint8).astype(numpy.int64)
    folder = tmp_path_factory.mktemp("fashion")
    numpy.savez(folder / "all.npz", images=images, labels=labels)
    numpy.savez(folder / "small.npz", images=images[:500], labels=labels[:500])
    return folder


def pytest_configure(config):
    config.addinivalue_line("markers", "browser: needs chromium")
