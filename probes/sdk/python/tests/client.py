"""What the tests of the frameworks do to a server, and how they compare."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx


def drive(port, paths):
    """Requests every path (or posts to it what comes with it), eight at once; returns how many answers had which status."""
    # A server closes the connection of a request that broke it; one kept alive might be the next request's. A limit on the
    # pool is not enough: the pool may hand a connection on between the end of its request and the check of the limit.
    headers = {"Connection": "close"}
    address = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=address, headers=headers, timeout=60) as client, ThreadPoolExecutor(8) as pool:

        def answer(path):
            if isinstance(path, str):
                return client.get(path).status_code
            return client.post(path[0], json=path[1]).status_code

        return Counter(pool.map(answer, paths))


def equals(seen, completed, failed):
    """The connection that looked whether the server listens sent no request, so all there is came from `drive`."""
    return (seen.counts["completed"], seen.counts["failed"]) == (completed, failed)


def check_stages(seen):
    whole = sum(seen.sums[name] for name in seen.sums if name.startswith("stage.duration/"))
    assert whole == seen.sums["request.duration"], "a request is in one stage at any instant"
