"""Options and what is wrong with them."""

from __future__ import annotations

import pickle
import socket
from pathlib import Path
from typing import Any

import pytest

import pgvpd
from pgvpd import Proxy, _pgvpd


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(pgvpd.ConfigError) as raised:
        Proxy(prot=1, relay="cooked", tenant_allow="a", tenant_deny="b")
    problems = raised.value.problems
    assert len(problems) == 3
    assert "prot: unknown option; did you mean port? (set in code)" in problems
    assert all(problem in str(raised.value) for problem in problems)


def test_values_of_every_kind_become_texts(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "port": 0,
        "allow_trust": True,
        "allow_cleartext": False,
        "handshake_timeout": 0.5,
        "tenant_deny": ["acme", "globex"],
        "login_roles": ("web",),
        "listen_unix_dir": tmp_path,
        "relay": "framed",
    }
    proxy = Proxy(**options)
    texts = ["0", "true", "false", "0.5", "acme,globex", "web", str(tmp_path), "framed"]
    assert [proxy.option(name) for name in options] == texts
    with proxy:
        assert (tmp_path / f".s.PGSQL.{proxy.port}").is_socket()


def test_every_option_of_the_core_is_known() -> None:
    defaults = _pgvpd.default_options()
    assert {"port", "upstream_host", "tenant_format", "log_level"} < defaults.keys()
    proxy = Proxy()
    assert {name: proxy.option(name) for name in defaults} == defaults
    with pytest.raises(KeyError):
        proxy.option("prot")


def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGVPD_PORT", "nonsense")
    monkeypatch.setenv("PGVPD_TENANT_DENY", "acme")
    with Proxy(port=0) as proxy:
        assert proxy.option("tenant_deny") == "none"


@pytest.mark.parametrize("value", [None, {"a"}, {"a": 1}, object(), b"x"])
def test_what_is_no_value_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="tenant_deny: give a str, int, float, bool or a list"):
        Proxy(tenant_deny=value)


def test_an_item_with_a_comma_would_be_two() -> None:
    with pytest.raises(ValueError, match="commas"):
        Proxy(tenant_deny=["acme,globex"])


def test_a_port_that_is_taken_is_a_start_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        proxy = Proxy(port=taken.getsockname()[1])
        with pytest.raises(pgvpd.StartError, match=str(taken.getsockname()[1])):
            proxy.start()
    with proxy:
        assert proxy.port


def test_exceptions_have_one_base_and_survive_pickling() -> None:
    with pytest.raises(pgvpd.Error) as raised:
        Proxy(port="x")
    copy = pickle.loads(pickle.dumps(raised.value))
    assert type(copy) is pgvpd.ConfigError
    assert (str(copy), copy.problems) == (str(raised.value), getattr(raised.value, "problems"))
    assert issubclass(pgvpd.StartError, pgvpd.Error)
