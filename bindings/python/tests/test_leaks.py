"""Starting and stopping leaves nothing behind."""

from __future__ import annotations

import json
import sys

import pytest

from .conftest import Run


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_thousand_cycles_leave_no_thread_socket_or_memory(run_python: Run) -> None:
    done = run_python(
        """
        import gc, json, os, socket, pgvpd

        SSL_REQUEST = bytes([0, 0, 0, 8, 4, 210, 22, 47])

        def counts():
            gc.collect()
            with open("/proc/self/statm") as statm:
                resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")
            return {"threads": len(os.listdir("/proc/self/task")), "files": len(os.listdir("/proc/self/fd")),
                    "resident": resident}

        for cycle in range(1, 1001):
            proxy = pgvpd.Proxy(upstream_host="127.0.0.1", port=0).start()
            # Served, so that what the first client costs once is there before the first look.
            with socket.create_connection((proxy.host, proxy.port)) as client:
                client.sendall(SSL_REQUEST)
                client.recv(1)
            if cycle % 2:
                proxy.stop()
            else:
                address = (proxy.host, proxy.port)
                del proxy
                while True:
                    with socket.socket() as client:
                        if client.connect_ex(address) != 0:
                            break
            if cycle == 200:
                early = counts()
        print(json.dumps([early, counts()]))
        """
    )
    early, late = json.loads(done.stdout)
    print(early, late)
    assert (late["threads"], late["files"]) == (early["threads"], early["files"])
    assert late["resident"] - early["resident"] < 1024 * 1024
