#!/usr/bin/env python3
"""How long shrinkd takes to be ready, and how much memory it holds when idle.

    tests/bench/idle.py [BUILD]        of 15 starts each: on an empty state, and on the same again
"""

import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROUNDS = 15


def start(build, state):
    """Seconds until /readyz says yes, and the resident kilobytes half a second later."""
    began = time.monotonic()
    daemon = subprocess.Popen([build / "shrinkd", "--listen", "127.0.0.1:0", "--state-dir", state],
                              stderr=subprocess.PIPE, text=True)
    try:
        for line in daemon.stderr:
            port = re.search(r"listening on 127\.0\.0\.1:(\d+)", line)
            if port:
                break
        urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/readyz").read()
        ready = time.monotonic() - began
        time.sleep(0.5)
        status = pathlib.Path(f"/proc/{daemon.pid}/status").read_text()
        return ready, int(re.search(r"VmRSS:\s+(\d+)", status)[1])
    finally:
        daemon.terminate()
        daemon.communicate()


def show(what, runs):
    ready, memory = zip(*runs)
    print(f"{what}: ready in {statistics.median(ready) * 1e3:.0f} ms"
          f" ({min(ready) * 1e3:.0f} to {max(ready) * 1e3:.0f}),"
          f" {statistics.median(memory) / 1e3:.1f} MB resident")


def main():
    build = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build")
    with tempfile.TemporaryDirectory() as folder:
        show("empty state", [start(build, f"{folder}/{i}") for i in range(ROUNDS)])
        show("same state ", [start(build, f"{folder}/0") for _ in range(ROUNDS)])


if __name__ == "__main__":
    main()
