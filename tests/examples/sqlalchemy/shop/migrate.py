"""Brings the schema up to date."""

from pathlib import Path

from alembic import command
from alembic.config import Config


def migrate(url: str) -> None:
    """Through the proxy as a user of `superuser_bypass`, or straight at the server, but not as the application's role."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent.parent / "migrations"))
    config.attributes["url"] = url
    command.upgrade(config, "head")
