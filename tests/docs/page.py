"""What a page of the manual tells its reader to type, read from its Markdown.

A fenced block is run as its language says. A comment in the line before it, which nobody sees who reads the page, says what else is to
be known:

    <!-- not run: why -->        it cannot be, or something else runs it
    <!-- file: pgvpd.conf -->    it is the content of this file
    <!-- numbers vary -->        of the output that is shown, numbers do not count
    <!-- before: ... -->         shell commands of several lines: what the reader is taken to have
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)
MARKER = re.compile(r"^ *<!-- (?P<kind>not run|file|before|numbers vary):?(?P<text>.*?)-->$", re.M | re.S)
RUN = {"sh", "console", "sql", "ini"}


@dataclass
class Block:
    """A fenced block, or commands that stand in a comment."""

    line: int
    language: str
    text: str
    markers: dict[str, str] = field(default_factory=dict)

    @property
    def commands(self) -> list[tuple[str, str]]:
        """The commands of a console block, each with the output that is shown."""
        commands: list[tuple[str, str]] = []
        for line in self.text.splitlines(keepends=True):
            if line.startswith("$ "):
                commands.append((line[2:], ""))
            elif commands and commands[-1][0].endswith("\\\n") and not commands[-1][1]:
                commands[-1] = (commands[-1][0] + line, "")
            elif commands:
                commands[-1] = (commands[-1][0], commands[-1][1] + line)
        return commands


def blocks(path: Path) -> list[Block]:
    """All blocks of a page that are run, or written, in order."""
    text = path.read_text()
    line_of = lambda position: text.count("\n", 0, position) + 1  # noqa: E731
    found: list[Block] = []
    fences = {match.start(): match for match in FENCE.finditer(text)}
    inside = [(match.start(), match.end()) for match in fences.values()]
    pending: dict[str, str] = {}
    things = list(fences.values()) + [
        match for match in MARKER.finditer(text) if not any(start <= match.start() < end for start, end in inside)
    ]
    for match in sorted(things, key=lambda match: match.start()):
        if match.re is MARKER:
            kind, content = match["kind"], match["text"].strip()
            if kind == "before":
                found.append(Block(line_of(match.start()), "before", content + "\n"))
            else:
                pending[kind] = content
            continue
        indent, language, content = match["indent"], match["language"], match["text"]
        content = "".join(line.removeprefix(indent) for line in content.splitlines(keepends=True))
        markers, pending = pending, {}
        if language in RUN or "file" in markers:
            found.append(Block(line_of(match.start()), language, content, markers))
    if pending:
        raise SystemExit(f"{path}: a comment {pending} with no block behind it")
    return found


def fits(shown: str, printed: str, numbers_vary: bool) -> bool:
    """Whether a command has printed what the page shows; "..." and "…" stand for anything, blanks count as one."""
    tidy = lambda text: re.sub(r"\s+", " ", text).strip()  # noqa: E731
    shown, printed = tidy(shown), tidy(printed)
    if numbers_vary:
        shown, printed = (re.sub(r"\d+(\.\d+)?", "N", text) for text in (shown, printed))
    pattern = ".*".join(re.escape(part) for part in re.split(r" ?(?:…|\.\.\.) ?", shown))
    return re.fullmatch(pattern, printed, re.S) is not None
