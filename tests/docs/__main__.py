"""Follows the manual: runs every command that it shows, in order, page by page, and checks
every link, and that every error message is explained.

    python3 -m docs [PAGE...]     from the folder tests/, as tests/docs.sh does
"""

import re
import shutil
import sys
import tempfile
import unicodedata
from pathlib import Path

from . import messages
from .page import Block, blocks, fits
from .place import ROOT, Failed, Place

OPTION = re.compile(r"^#? ?(?P<key>[a-z_]+) =", re.M)


def options() -> set[str]:
    """The names of all options, as the manual has them, which another test holds against the code."""
    return set(re.findall(r"^\| `(\w+)` \|.*`PGVPD_\w+`", (ROOT / "docs/configuration.md").read_text(), re.M))


def is_proxy(command: str) -> bool:
    """True for the proxy itself, which stays in the foreground until it is told to stop."""
    words = command.split()
    others = ("--check-config", "--help", "--version", "-h", "-V")
    return words[:1] == ["pgvpd"] and (len(words) == 1 or words[1].startswith("-")) and not any(word in others for word in words)


def commands(text: str) -> list[str]:
    """A shell block's commands: its lines, but for those that a backslash, a quote or a here-document goes on with."""
    found, whole = [], ""
    for line in text.splitlines(keepends=True):
        whole += line
        goes_on = line.rstrip().endswith("\\") or whole.count("'") % 2 or whole.count('"') % 2
        here = re.search(r"<<-?'?(\w+)'?", whole)
        if goes_on or (here and line.strip() != here[1]):
            continue
        found.append(whole)
        whole = ""
    return [command for command in [*found, whole] if command.strip() and not command.lstrip().startswith("#")]


def follow(block: Block, place: Place, known: set[str]) -> int:
    """Does what a block says. Gives how many commands that were."""
    if "file" in block.markers:
        path = place.home / block.markers["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        path.chmod(0o600)  # it may hold a secret
        path.chmod(0o600)
        return 1
    match block.language:
        case "before" | "sh":
            for command in commands(block.text):
                if is_proxy(command.split("#")[0]):
                    place.serve(command.strip())
                else:
                    place.run(command)
            return len(commands(block.text))
        case "sql":
            script = place.home / "block.sql"
            script.write_text(block.text)
            place.run(f"psql -qX -v ON_ERROR_STOP=1 -d mydb -f {script}")
            return 1
        case "ini":
            unknown = set(OPTION.findall(block.text)) - known
            if unknown:
                raise Failed(f"no options: {', '.join(sorted(unknown))}")
            if re.search(r"^\w.* #", block.text, re.M):
                raise Failed("a # behind a value belongs to the value")
            return 1
    for command, shown in block.commands:
        # A command may fail; then the page shows how.
        printed = place.run(f"{{ {command.strip()}\n}} || true")
        if shown.strip() and not fits(shown, printed, "numbers vary" in block.markers):
            raise Failed(f"$ {command}it prints:\n{printed}")
    return len(block.commands)


def follow_page(page: Path, scratch: Path, program: Path, known: set[str]) -> tuple[int, list[str]]:
    """Follows a page. Gives how many commands were run, and what failed; after a failure the rest of the page is left out."""
    wanted = [block for block in blocks(page) if "not run" not in block.markers]
    if not wanted:
        return 0, []
    count = 0
    with Place(scratch, page.stem.lower(), program) as place:
        for block in wanted:
            try:
                count += follow(block, place, known)
            except Failed as failure:
                return count, [f"{page.relative_to(ROOT)}:{block.line}: {failure}"]
    return count, []


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    outside = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)
    for heading in re.findall(r"^#+ (.*)$", outside, re.M):
        heading = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        kept = "".join(c for c in heading if c in " -_" or unicodedata.category(c)[0] in "LN")
        found.add(kept.replace(" ", "-"))
    return found


def broken_links(pages: list[Path]) -> list[str]:
    """Links to files and headings that are not there."""
    texts = {page.resolve(): page.read_text() for page in pages}
    broken = []
    for page, text in texts.items():
        outside = re.sub(r"^ *```.*?^ *```$|`[^`\n]*`", "", text, flags=re.M | re.S)
        for link in re.findall(r"\]\(([^)\s]+)\)", outside):
            if re.match(r"\w+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            is_there = target.exists() and (not anchor or target not in texts or anchor in anchors(texts[target]))
            if not is_there:
                broken.append(f"{page.relative_to(ROOT)}: {link} leads nowhere")
    return broken


def main() -> int:
    # Those of packages are tested where the packages are.
    all_pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
    pages = [Path(name).resolve() for name in sys.argv[1:]] or all_pages
    if sys.argv[1:] == ["--no-pages"]:
        pages = []
    program = ROOT / "target/debug/pgvpd"
    known = options()
    passed, failures = 0, []
    scratch = Path(tempfile.mkdtemp(prefix="pgvpd-docs-"))
    scratch.chmod(0o755)
    try:
        for page in pages:
            count, failed = follow_page(page, scratch, program, known)
            if count or failed:
                print(f"{page.relative_to(ROOT)}: {count} commands", flush=True)
            passed += count
            failures += failed
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for wrong in (broken_links(all_pages), messages.missing()):
        passed += 0 if wrong else 1
        failures += wrong
    for failure in failures:
        print(f"FAILED {failure}")
    print(f"{passed} passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
