"""Stands for the service manager: prints each line of what a service says to NOTIFY_SOCKET (sd_notify(3)), until it is ended.

usage: notify.py SOCKET
"""

import os
import socket
import sys

path = sys.argv[1]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
    server.bind(path)
    # The service is another user.
    os.chmod(path, 0o777)
    print("bound", flush=True)
    while True:
        for line in server.recv(65536).decode(errors="replace").splitlines():
            print(line, flush=True)
