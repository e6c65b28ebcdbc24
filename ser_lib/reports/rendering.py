"""HTML from the package's templates. Values are escaped, and pages load nothing from outside."""

import base64
import hashlib
from pathlib import Path

TEMPLATES = Path(__file__).with_name("templates")


def render(template: str, **values) -> str:
    """A template of the folder `templates`, filled with values."""
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    return environment.get_template(template).render(**values)


def script_source(script: str) -> str:
    """The source expression that lets a Content-Security-Policy run this script of `templates`, and no other."""
    # Templates include a file without its last line break.
    text = (TEMPLATES / script).read_text(encoding="utf-8").removesuffix("\n")
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
