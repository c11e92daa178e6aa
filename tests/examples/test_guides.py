"""The code in a guide is the example's, line by line; a line that is only `…` stands for what was left out."""

import re
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent
GUIDES = EXAMPLES.parent.parent / "docs"


def trimmed(text: str) -> str:
    """Indentation differs where a part of a function is shown, and an empty line more or less is nobody's concern."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


@pytest.mark.parametrize("name", ["sqlalchemy", "django"])
def test_the_code_in_the_guide_is_that_of_the_example(name: str) -> None:
    sources = [f"\n{trimmed(path.read_text())}\n" for path in (EXAMPLES / name).rglob("*.py")]
    blocks = re.findall(r"^```python\n(.*?)^```$", (GUIDES / f"{name}.md").read_text(), re.MULTILINE | re.DOTALL)
    parts = [part for block in blocks for part in trimmed(block).split("\n…\n")]
    assert parts
    assert [part for part in parts if not any(f"\n{part}\n" in source for source in sources)] == []
