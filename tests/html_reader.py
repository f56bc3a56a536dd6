"""HTML in, a tree of its elements out; a tag that does not close in its order is refused."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"img", "meta"}
_IN_A_LINE = {"code", "data", "span"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    content: list["Element | str"] = field(default_factory=list)

    def __iter__(self) -> Iterator["Element"]:
        """This element and all in it, in the order of the document."""
        yield self
        for each in self.content:
            if isinstance(each, Element):
                yield from each

    def all(self, tag: str, **attributes: str) -> list["Element"]:
        """Every element of this tag with these attributes; `class_` is one of its classes."""
        style = attributes.pop("class_", None)
        return [
            each
            for each in self
            if each.tag == tag
            and attributes.items() <= each.attributes.items()
            and (style is None or style in each.attributes.get("class", "").split())
        ]

    @property
    def text(self) -> str:
        """All text in it, but that of style sheets, with single spaces."""
        return " ".join("".join(self._texts()).split())

    def _texts(self) -> Iterator[str]:
        for each in self.content:
            if isinstance(each, str):
                yield each
            elif each.tag != "style":
                space = "" if each.tag in _IN_A_LINE else " "
                yield space
                yield from each._texts()
                yield space


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.path = [Element("document")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.path[-1].content.append(element)
        if tag not in _VOID:
            self.path.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.path.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.path[-1].content.append(data)


def read_html(text: str) -> Element:
    reader = _Reader()
    reader.feed(text)
    reader.close()
    (document,) = reader.path
    return document
