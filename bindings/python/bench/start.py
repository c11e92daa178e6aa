"""How long a proxy takes from start to ready: `python bench/start.py`.

Prints `python`, the median and every measurement in microseconds, as the benchmarks of the other languages do; ready is
when the call returns, since the listener is open then.
"""

import statistics
import time

from pgvpd import Proxy

WARM_UP = 5  # these do not count
COUNTED = 25


def start_to_ready() -> int:
    begun = time.perf_counter_ns()
    proxy = Proxy(upstream_host="127.0.0.1", upstream_port=5432, port=0).start()
    took = time.perf_counter_ns() - begun
    proxy.stop()
    return took // 1000


measured = [start_to_ready() for _ in range(WARM_UP + COUNTED)][WARM_UP:]
print("python", statistics.median_high(measured), *measured)
