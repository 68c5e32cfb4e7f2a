"""What a reader needs of the built site: headings, alternative texts, links that lead somewhere.

python .ci/site.py site            one line for each fault; 1 if there are any
python .ci/site.py site --links    the links to other sites, with the pages that have them
"""

import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Page:
    """What is looked at in one page."""

    lang: str = ""
    title: str = ""
    headings: list[int] = field(default_factory=list)
    pictures: list[tuple[str, str]] = field(default_factory=list)  # source, alternative text
    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


class Reader(HTMLParser):
    """Reads a page into a `Page`."""

    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self.in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        page = self.page
        if tag == "html":
            page.lang = given.get("lang", "")
        elif tag == "img":
            page.pictures.append((given.get("src", ""), given.get("alt", "").strip()))
        elif tag == "a" and "href" in given:
            page.links.append(given["href"])
        elif len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            page.headings.append(int(tag[1]))
        if "id" in given:
            page.ids.append(given["id"])
        self.in_title = tag == "title" or (self.in_title and tag != "body")

    def handle_endtag(self, tag: str) -> None:
        self.in_title = self.in_title and tag != "title"

    def handle_data(self, data: str) -> None:
        if self.in_title:
            self.page.title += data


def read(path: Path) -> Page:
    reader = Reader()
    reader.feed(path.read_text())
    return reader.page


def faults_within(page: Page) -> list[str]:
    """What is wrong with a page by itself."""
    found = []
    if not page.lang:
        found.append("says no language")
    if not page.title.strip():
        found.append("has no title")
    if page.headings.count(1) != 1:
        found.append(f"has {page.headings.count(1)} headings of the first level")
    for above, below in zip(page.headings, page.headings[1:], strict=False):
        if below > above + 1:
            found.append(f"has a heading h{below} below an h{above}")
    for source, text in page.pictures:
        if not text or text == source:  # the file's name is what a picture without a text gets
            found.append(f"has a picture without a text: {source}")
    found += [
        f"has the id {name} twice" for name in sorted(set(page.ids)) if page.ids.count(name) > 1
    ]
    return found


def faults_of_links(name: str, pages: dict[str, Page], root: Path) -> list[str]:
    """Links of a page that lead nowhere, or whose address is not one."""
    found = []
    for link in pages[name].links:
        where = urlsplit(link)
        if where.scheme or where.netloc:
            if where.scheme not in ("https", "mailto") or " " in link or "." not in where.netloc:
                found.append(f"has the link {link}")
            continue
        target = name
        if where.path:
            path = (root / name).parent / unquote(where.path)
            target = str(path.resolve().relative_to(root.resolve()))
        anchor = unquote(where.fragment)
        if not (root / target).is_file():
            found.append(f"links to {link}, which is not there")
        elif anchor and target in pages and anchor not in pages[target].ids:
            found.append(f"links to {link}, which that page does not have")
    return found


def main(folder: str, *options: str) -> int:
    """Print the faults, or the links to other sites."""
    root = Path(folder)
    pages = {str(p.relative_to(root)): read(p) for p in sorted(root.rglob("*.html"))}
    if options == ("--links",):
        outside: dict[str, list[str]] = {}
        for name, page in pages.items():
            for link in {link for link in page.links if urlsplit(link).netloc}:
                outside.setdefault(link, []).append(name)
        for link, names in sorted(outside.items()):
            print(link, *names)
        return 0
    faults = [
        f"{name} {fault}"
        for name, page in pages.items()
        for fault in faults_within(page) + faults_of_links(name, pages, root)
    ]
    print("".join(f"{fault}\n" for fault in faults), end="")
    print(f"{len(pages)} pages, {len(faults)} faults")
    return int(bool(faults) or not pages)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
