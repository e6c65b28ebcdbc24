"""Write the website: README and docs as HTML beside the committed reports.

    python scripts/make_site.py _site

Needs mistune alone. Links between Markdown pages lead to their HTML; links to other files of the repository lead to
the address that pyproject.toml defines.
"""

import html
import re
import shutil
import sys
from pathlib import Path

import mistune
from set_address import ROOT, repository

FRAME = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #222 }}
table {{ display: block; overflow-x: auto; border-collapse: collapse }}
th, td {{ border: 1px solid #ccc; padding: .25rem .5rem; text-align: left; vertical-align: top }}
pre {{ overflow-x: auto; padding: .75rem; background: #f5f5f5 }}
img {{ max-width: 100% }}
</style>
<nav>{links}</nav>
<main>{body}</main>
</html>
"""


def pages() -> dict[Path, Path]:
    """Markdown file of the repository: HTML file of the site, both relative."""
    names = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md"]
    sources = [Path(name) for name in names] + [path.relative_to(ROOT) for path in sorted(ROOT.glob("docs/*.md"))]
    return {source: source.with_suffix(".html") for source in sources} | {Path("README.md"): Path("index.html")}


def anchor(text: str) -> str:
    """The id that GitHub gives a heading, so that links to it work here too.

    >>> anchor("Several GPUs, or `machines`")
    'several-gpus-or-machines'
    """
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def target(link: str, page: Path) -> str:
    """Where a link of a Markdown page leads on the site."""
    if re.match(r"[a-z]+:|#", link):
        return link
    name, _, fragment = link.partition("#")
    path = (ROOT / page.parent / name).resolve().relative_to(ROOT.resolve())
    if path in pages():
        depth = len(pages()[page].parts) - 1
        return "../" * depth + pages()[path].as_posix() + (f"#{fragment}" if fragment else "")
    return link if path.parts[0] == "reports" else f"{repository(ROOT)}/blob/main/{path.as_posix()}"


def render(page: Path) -> str:
    """One Markdown page as a whole HTML page."""
    markdown = mistune.create_markdown(escape=False, plugins=["table", "strikethrough"])
    body = str(markdown((ROOT / page).read_text(encoding="utf-8")))
    body = re.sub(
        r"<h(\d)>(.*?)</h\1>",
        lambda match: (
            f'<h{match[1]} id="{anchor(re.sub("<.*?>", "", html.unescape(match[2])))}">{match[2]}</h{match[1]}>'
        ),
        body,
    )
    body = re.sub(
        r'(href|src)="([^"]+)"',
        lambda match: f'{match[1]}="{html.escape(target(html.unescape(match[2]), page))}"',
        body,
    )
    depth = "../" * (len(pages()[page].parts) - 1)
    menu = {"Start": "index.html", "Reports": "reports/index.html"}
    menu |= {source.stem: path.as_posix() for source, path in pages().items() if source.parts[0] == "docs"}
    links = " · ".join(f'<a href="{depth}{path}">{name}</a>' for name, path in menu.items())
    title = re.search(r"^# (.+)", (ROOT / page).read_text(encoding="utf-8"), re.M)
    return FRAME.format(title=html.escape(title[1] if title else page.stem), links=links, body=body)


def write_site(folder: Path) -> None:
    """Write every page and a copy of reports/ into a folder."""
    for source, path in pages().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(render(source), encoding="utf-8")
    shutil.copytree(ROOT / "reports", folder / "reports", dirs_exist_ok=True)


if __name__ == "__main__":
    write_site(Path(sys.argv[1]))
