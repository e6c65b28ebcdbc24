"""Rewrite the project's address in every file that repeats it.

    make address URL=https://github.com/me/fork

`project.urls.Repository` in pyproject.toml defines the address. README, docs, notebooks, committed pages, CITATION.cff
and workflows repeat it, as `owner/name` or as the address of its GitHub Pages.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
# A name must not end inside a longer one: `owner/name-two` is another repository.
BEFORE, AFTER = r"(?<![\w.-])", r"(?![\w-])"


def repository(root: Path) -> str:
    """The address that pyproject.toml defines, such as https://github.com/owner/name."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def forms(url: str) -> tuple[str, str]:
    """What files repeat of an address: `owner/name` and `owner.github.io/name`.

    >>> forms("https://github.com/me/fork")
    ('me/fork', 'me.github.io/fork')
    """
    match = re.fullmatch(r"https://github\.com/([\w-]+)/([\w.-]+?)(\.git)?/?", url)
    if not match:
        raise ValueError(f"expected an address such as https://github.com/me/fork, not {url!r}")
    owner, name = match.group(1, 2)
    return f"{owner}/{name}", f"{owner}.github.io/{name}"


def rewrite(root: Path, url: str) -> list[Path]:
    """Replace the address that pyproject.toml defines by `url` in all files of the repository; return those changed."""
    pairs = list(zip(forms(repository(root)), forms(url), strict=True))
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout
    changed = []
    for path in (root / name for name in listed.split("\0") if name):
        try:
            text = path.read_bytes().decode("utf-8")
        except (FileNotFoundError, UnicodeDecodeError):  # deleted but not yet committed; a picture or audio
            continue
        new = text
        for old_form, new_form in pairs:
            new = re.sub(BEFORE + re.escape(old_form) + AFTER, new_form, new)
        if new != text:
            path.write_bytes(new.encode("utf-8"))
            changed.append(path)
    return changed


def main() -> int:
    try:
        (url,) = sys.argv[1:]
        for path in rewrite(ROOT, url):
            print(path.relative_to(ROOT))
    except ValueError as error:
        print(f"make address URL=https://github.com/me/fork ({error})", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
