"""A DNS server that knows one name: it has the address 127.0.0.1. All others do not exist.

usage: dns.py ADDRESS NAME
"""

import socket
import struct
import sys

A, NO_ERROR, NO_SUCH_NAME = 1, 0, 3
address, name = sys.argv[1:]
known = b"".join(bytes([len(label)]) + label for label in name.encode().split(b".")) + b"\0"


def answer(query: bytes) -> bytes:
    """RFC 1035, 4.1: the header, the question again, and where it is known and an A record is asked for, the record."""
    (identity,) = struct.unpack_from("!H", query)
    end = query.index(b"\0", 12) + 1
    (kind,) = struct.unpack_from("!H", query, end)
    exists = query[12:end].lower() == known
    # The record's name is a pointer to the question's.
    record = struct.pack("!HHHIH4B", 0xC00C, A, 1, 60, 4, 127, 0, 0, 1) if exists and kind == A else b""
    flags = 0x8180 | (NO_ERROR if exists else NO_SUCH_NAME)
    return struct.pack("!HHHHHH", identity, flags, 1, bool(record), 0, 0) + query[12 : end + 4] + record


with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind((address, 53))
    print("bound", flush=True)
    while True:
        query, client = server.recvfrom(4096)
        server.sendto(answer(query), client)
