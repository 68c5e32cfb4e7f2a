"""A page of HTML, parsed by the standard library into what the tests ask for."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "line", "polyline", "circle"}


@dataclass
class Element:
    """One element: its tag, its attributes, its text, and the elements that it lies in."""

    tag: str
    attributes: dict[str, str | None]
    inside: tuple[str, ...]
    text: str = ""


@dataclass
class Parsed(HTMLParser):
    """Every element of a page in order. An end tag that matches no start tag is an error."""

    page: str
    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.open: list[Element] = []
        self.feed(self.page)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        found = Element(tag, dict(attrs), tuple(x.tag for x in self.open))
        self.elements.append(found)
        if tag not in VOID:
            self.open.append(found)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(Element(tag, dict(attrs), tuple(x.tag for x in self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        for element in self.open:
            element.text += data

    def all(self, *tags: str) -> list[Element]:
        """The elements with one of these tags, in order."""
        return [x for x in self.elements if x.tag in tags]

    def one(self, tag: str) -> Element:
        """The only element with this tag."""
        (found,) = self.all(tag)
        return found

    def rows(self, caption: str) -> list[list[str]]:
        """The cells of a table's body by row; AssertionError without the table."""
        found, at = [], None
        for x in self.elements:
            if x.tag == "caption":
                at = x.text == caption
                found += [[]] if at else []
            elif at and x.tag == "tr" and "tbody" in x.inside:
                found.append([])
            elif at and x.tag in ("th", "td") and "tbody" in x.inside:
                found[-1].append(x.text)
        assert found, f"no table {caption!r}"
        return found[1:]
