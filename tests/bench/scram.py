"""A SCRAM-SHA-256 verifier with any number of iterations."""

import base64
import hashlib
import hmac
import os


def verifier(password: str, iterations: int) -> str:
    """What PostgreSQL keeps in pg_authid.rolpassword.

    PostgreSQL can be told the number only from version 16 on (scram_iterations), and not for one role. With 1, a login
    costs what its messages cost, instead of what the key derivation costs.
    """
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${iterations}:{salt64}${stored64}:{server64}"
