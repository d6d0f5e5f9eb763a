"""What a browser makes of a report, and text that tries to be more than text."""

from __future__ import annotations

from html.parser import HTMLParser

EVIL = (
    "<script>alert(1)</script> ![x](http://evil/x.png) [a](javascript:b) | `` ``` \n# big\n<img src=x onerror=y>\n"
    "````\n</pre></details><b>\x1b[31m\n&amp;"
)


class Page(HTMLParser):
    """Collects what a page is made of: tags, attributes, headings, marked words, and the text within `pre`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.figures: list[str] = []
        self.within: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag == "figure":
            self.figures.append(dict(attrs)["aria-label"] or "")
        if tag not in ("meta", "br", "hr", "img"):
            self._open.append(tag)
            self.within.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.within[tag][-1] += data

    @property
    def pre(self) -> str:
        return "".join(self.within.get("pre", []))
