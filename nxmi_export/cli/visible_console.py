"""Whatever is printed in, the same on the terminal out, but for control characters in texts."""

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

__all__ = ["VisibleConsole", "visible"]

# C0 but tab and line feed, DEL, C1, what turns the direction of all that follows, and half
# characters: what a path has that is not UTF-8, and what no terminal can be sent.
_HIDDEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_PICTURES = 0x2400  # Unicode's block of control pictures, in the order of C0
_DELETE, _ITS_PICTURE = "\x7f", "\u2421"


class VisibleConsole(Console):
    """A console that other people's texts cannot command: to clear it, to rename its window, …

    Only rich's own sequences reach the terminal. Colons name no emoji: a text is shown as it is.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(emoji=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """As rich's; strings are made visible first, so that what is measured is what is shown."""
        return super().render_str(visible(text), **settings)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """As rich's; this reaches what was made a `Text` before, such as a bar's description.

        That is measured already, so that its control characters go and no sign is put in.
        """
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else _without_hidden(segment.text)
            yield segment if text == segment.text else segment._replace(text=text)


def visible(text: str) -> str:
    """The text with a visible sign for each character that a terminal would obey or refuse."""
    return _HIDDEN.sub(lambda found: _sign(found[0]), text)


def _without_hidden(text: str) -> str:
    """The text in as many columns: rich gives half characters one, and all others none."""
    return _HIDDEN.sub(lambda found: "\ufffd" if found[0] >= "\ud800" else "", text)


def _sign(character: str) -> str:
    if character < " ":
        return chr(_PICTURES + ord(character))
    return _ITS_PICTURE if character == _DELETE else ascii(character)[1:-1]
