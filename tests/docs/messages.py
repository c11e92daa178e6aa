"""Every message that the proxy gives a client, read from its source, has its entry in docs/troubleshooting.md.

A message is the text of a `Refusal`, or of an error that becomes one in `pgvpd-core/src/error.rs`; what is filled in stands as "…".
"""

import re

from .place import ROOT

SOURCE = ROOT / "pgvpd-core/src"
# Where the errors are that clients read: those that error.rs turns into a Refusal.
ERRORS = [
    "secrets/mod.rs",
    "pool/mod.rs",
    "session/login_error.rs",
    "tenant/identity.rs",
    "tenant/parameters.rs",
    "tenant/policy.rs",
    "tenant/registry.rs",
    "upstream/error.rs",
    "wire/mod.rs",
    "auth/scram/mod.rs",
    "session/proxied.rs",
]
STRING = r'"((?:[^"\\]|\\.)*)"'
REFUSAL = re.compile(r"(?:Refusal|Self)::new\(\s*SqlState::\w+,\s*(?:format_args!\(\s*)?" + STRING, re.S)
LET_MESSAGE = re.compile(r"let message = (?:format_args!\(\s*|format!\(\s*)?" + STRING + r".{0,200}?(?:Refusal|Self)::new\(SqlState", re.S)
# What a client reads of a resolver, which says less than the error.
FOR_CLIENT = re.compile(r"=> format!\(" + STRING)
RAISED = re.compile(r"RAISE EXCEPTION '((?:[^']|'')*)'")
THIS_ERROR = re.compile(r"#\[error\(\s*" + STRING, re.S)


def plain(text: str) -> str:
    """Without Rust's escapes, and with "…" for what is filled in."""
    text = re.sub(r"\\\n\s*", "", text).replace('\\"', '"').replace("{{", "\0").replace("}}", "\1")
    text = re.sub(r'"?\{[^{}]*\}"?', "…", text)
    return text.replace("\0", "{").replace("\1", "}").strip()


def without_tests(text: str) -> str:
    return re.split(r"#\[cfg\(test\)\]\n(?:#.*\n)*mod tests \{", text)[0]


def in_source() -> dict[str, str]:
    """Each message, and the file that it stands in."""
    found: dict[str, str] = {}
    for path in sorted(SOURCE.rglob("*.rs")):
        name = str(path.relative_to(SOURCE))
        if name.endswith("_tests.rs") or name.startswith(("testing/", "console/")):
            continue
        text = without_tests(path.read_text())
        patterns = [REFUSAL, LET_MESSAGE]
        patterns += [THIS_ERROR] if name in ERRORS else []
        patterns += [FOR_CLIENT] if name == "resolve/fault.rs" else []
        for pattern in patterns:
            for match in pattern.finditer(text, text.find("fn for_client") if pattern is FOR_CLIENT else 0):
                message = plain(match[1])
                if message.strip("…: "):
                    found.setdefault(message, name)
    return found


def in_sql() -> set[str]:
    """The errors of pgvpd's functions in the database, which the page may have."""
    texts = [path.read_text() for path in (ROOT / "sql").glob("*.sql")]
    return {raised.replace("%", "…") for text in texts for raised in RAISED.findall(text)}


def documented() -> set[str]:
    """The messages that the page has: those in bold code at the start of a row."""
    page = ROOT / "docs/troubleshooting.md"
    rows = re.findall(r"^\| `(.+?)` \|", page.read_text(), re.M) if page.exists() else []
    return set(rows)


def missing() -> list[str]:
    """What is wrong with the page: messages that it does not have, and those that nobody gives."""
    source, page = in_source(), documented()
    lacking = [f"docs/troubleshooting.md lacks `{message}` ({name})" for message, name in source.items() if message not in page]
    stale = [f"docs/troubleshooting.md has `{message}`, which nobody says" for message in sorted(page - set(source) - in_sql())]
    return lacking + stale
