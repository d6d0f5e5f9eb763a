"""Reports as one self-contained HTML file: no script, nothing loaded from elsewhere, pictures inlined."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from .document import Block, Heading, Image, Paragraph, Table, Verbatim

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #8884; text-align: left; vertical-align: top; }
th { font-weight: 600; } td { overflow-wrap: anywhere; }
.number { text-align: right; white-space: nowrap; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #8881; padding: .7rem; border-radius: .3rem; }
summary { cursor: pointer; } img { max-width: 100%; background: white; }
.warning { border-left: .3rem solid #d55e00; padding: .5rem 1rem; background: #d55e0018; }
"""
# The file shows text that models wrote: should anything ever slip through the escaping, it still cannot run.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render_html(blocks: Sequence[Block]) -> str:
    """The document as one HTML page."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "report")
    body = "\n".join(_render(block) for block in blocks)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _render(block: Block) -> str:
    match block:
        case Heading(level=level, text=text):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Paragraph(text=text, warning=warning):
            return f'<p class="warning">{escape(text)}</p>' if warning else f"<p>{escape(text)}</p>"
        case Image(path=path, alt=alt):
            data = base64.b64encode(path.read_bytes()).decode()
            return f'<p><img alt="{escape(alt)}" src="data:image/png;base64,{data}"></p>'
        case Table():
            return _table(block)
        case Verbatim(title=title, text=text):
            return f"<details open><summary>{escape(title)}</summary>\n<pre>{escape(text)}</pre></details>"


def _table(table: Table) -> str:
    def row(tag: str, cells: Sequence[str]) -> str:
        kinds = ("" if n < table.text_columns else ' class="number"' for n in range(len(cells)))
        return f"<tr>{''.join(f'<{tag}{kind}>{escape(c)}</{tag}>' for kind, c in zip(kinds, cells, strict=True))}</tr>"

    head = f"<thead>{row('th', table.heads)}</thead>" if any(table.heads) else ""
    body = "\n".join(row("td", cells) for cells in table.rows)
    return f'<div class="wide"><table>{head}\n<tbody>\n{body}\n</tbody></table></div>'
