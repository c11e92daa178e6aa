"""Each of many tenants logs in once through a pool, and what the proxy keeps of them is printed.

    many_tenants.py PORT ADMIN_PORT PID TENANTS

Takes the password from PGPASSWORD and the database from PGDATABASE; the proxy asks for the password in the clear, on loopback.
"""

import os
import socket
import struct
import sys
import threading
import time
import urllib.request

PORT, ADMIN, PID, TENANTS = (int(argument) for argument in sys.argv[1:5])
THREADS = 8


def packet(tenant: str) -> bytes:
    pairs = ["user", f"app_user.{tenant}", "database", os.environ["PGDATABASE"], ""]
    body = struct.pack("!i", 3 << 16) + b"\0".join(pair.encode() for pair in pairs) + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def log_in(tenant: str) -> None:
    """Logs in, waits until the session is ready, and leaves."""
    with socket.create_connection(("127.0.0.1", PORT)) as client:
        client.sendall(packet(tenant))
        secret = os.environ["PGPASSWORD"].encode() + b"\0"
        stream = client.makefile("rb")
        while True:
            kind = stream.read(1)
            body = stream.read(struct.unpack("!i", stream.read(4))[0] - 4)
            if kind == b"E":
                raise RuntimeError(body)
            if kind == b"R" and body == b"\0\0\0\3":
                client.sendall(b"p" + struct.pack("!i", len(secret) + 4) + secret)
            if kind == b"Z":
                client.sendall(b"X\0\0\0\4")
                return


def memory() -> int:
    """KiB that are resident."""
    with open(f"/proc/{PID}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def metrics() -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/metrics") as answer:
        return answer.read().decode()


def show(what: str) -> None:
    text = metrics()
    series = sum(line.startswith("pgvpd_tenant_sessions_total{") for line in text.splitlines())
    print(f"{what}: {memory()} KiB, /metrics {len(text)} bytes, {series} series of tenants' sessions", flush=True)


def worker(numbers: "range") -> None:
    for number in numbers:
        log_in(f"tenant-{number}")


log_in("first")
show("at the start")
began = time.monotonic()
step = TENANTS // 10
for first in range(0, TENANTS, step):
    threads = [threading.Thread(target=worker, args=(range(first + n, first + step, THREADS),)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    show(f"after {first + step} tenants")
print(f"{TENANTS / (time.monotonic() - began):.0f} logins/s")
# Until nobody is left and memory has stopped to go down, for 30 s at most.
deadline = time.monotonic() + 30
least, rest = memory(), 0
while time.monotonic() < deadline and (rest < 5 or "\npgvpd_connections_active 0.0" not in metrics()):
    threading.Event().wait(1)
    present = memory()
    least, rest = min(least, present), 0 if present < least else rest + 1
show("at the end")
total = sum(
    float(line.rsplit(" ", 1)[1]) for line in metrics().splitlines() if line.startswith("pgvpd_tenant_sessions_total{")
)
print(f"logins in all series of tenants: {total:.0f}")
