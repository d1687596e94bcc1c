"""Posts a large batch from a process of its own: `python -m bench.service.batch_sender PORT FILE COUNT AT_ONCE`.

Who is told to come again does so. The last line is one JSON object: how many were answered with what, and the seconds
that the slowest took from its first try.
"""

import http.client
import json
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

HOST = "127.0.0.1"
PATIENCE_S = 120.0
_HEADERS = {"Content-Type": "application/json"}


def main(port: int, body: bytes, count: int, at_once: int) -> int:
    """Post and print; return 0."""
    statuses: Counter[int] = Counter()

    def post(_: int) -> float:
        begun = time.monotonic()
        while time.monotonic() - begun < PATIENCE_S:
            connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S)
            try:
                connection.request("POST", "/predict/batch", body, _HEADERS)
                with connection.getresponse() as reply:
                    reply.read()
                    statuses[reply.status] += 1
                    if reply.status != HTTPStatus.SERVICE_UNAVAILABLE:
                        break
                    time.sleep(float(reply.headers["Retry-After"]))
            finally:
                connection.close()
        return time.monotonic() - begun

    with ThreadPoolExecutor(at_once) as threads:
        slowest_s = max(threads.map(post, range(count)))
    print(json.dumps({"statuses": statuses, "slowest_s": slowest_s}))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2]).read_bytes(), int(sys.argv[3]), int(sys.argv[4])))
