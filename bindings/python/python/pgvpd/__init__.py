"""Virtual Private Database for PostgreSQL: a proxy that makes tenant identity part of the connection.

    import pgvpd

    with pgvpd.Proxy(upstream_host="127.0.0.1", upstream_port=5432, port=0) as proxy:
        print(proxy.url("acme", "mydb"))  # postgresql://app_user.acme@127.0.0.1:<port>/mydb

`pgvpd.testing` has a private PostgreSQL and `assert_isolated`; `pytest --fixtures` shows what pytest has of both.
"""

from pgvpd._errors import ConfigError, Error, StartError
from pgvpd._pgvpd import __version__
from pgvpd._proxy import Proxy, Stats

__all__ = ["ConfigError", "Error", "Proxy", "StartError", "Stats", "__version__"]
