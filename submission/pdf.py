"""A small part of Markdown to PDF: headings, paragraphs, bullet points and tables on A4, the same bytes every time."""

import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from markdown_it.tree import SyntaxTreeNode

FONT_SIZES = (8.5, 8, 7.5, 7, 6.5, 6)
PADDING = 3

Block = (
    tuple[Literal["heading"], tuple[int, str]]
    | tuple[Literal["paragraph"], str]
    | tuple[Literal["bullets"], list[str]]
    | tuple[Literal["table"], list[list[str]]]
)


def blocks(markdown: str) -> list[Block]:
    """Takes Markdown apart: headings, paragraphs, lists, tables, bold and code; all else is text.

    Returns:
        (kind, content) per block: ("heading", (level, text)), ("paragraph", text), ("bullets", [text, ...]) and
        ("table", [[cell, ...], ...]) with the header as its first row. Texts are in reportlab's markup, cells plain.
    """
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

    parser = MarkdownIt("zero").enable(["heading", "list", "table", "emphasis", "backticks", "escape", "newline"])
    found: list[Block] = []
    for node in SyntaxTreeNode(parser.parse(markdown)).children:
        texts = [_markup(inline) for inline in node.walk() if inline.type == "inline"]
        if node.type == "table":
            rows = [row.children for row in node.walk() if row.type == "tr"]
            found.append(("table", [[_plain(cell) for cell in row] for row in rows]))
        elif node.type == "heading":
            found.append(("heading", (int(node.tag[1:]), texts[0])))
        elif node.type == "paragraph":
            found.append(("paragraph", texts[0]))
        else:
            found.append(("bullets", texts))
    return found


def _markup(node: "SyntaxTreeNode") -> str:
    """A line of Markdown in reportlab's own markup."""
    if not node.children:
        text = " " if node.type == "softbreak" else escape(node.content)
        return f'<font face="Courier">{text}</font>' if node.type == "code_inline" else text
    text = "".join(_markup(child) for child in node.children)
    return f"<b>{text}</b>" if node.type == "strong" else text


def _plain(node: "SyntaxTreeNode") -> str:
    return "".join(leaf.content for leaf in node.walk() if leaf.type in ("text", "code_inline"))


def render(markdown: str, title: str, author: str) -> bytes:
    """The bytes of a PDF with the content of a Markdown text; the same text gives the same bytes."""
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.units import mm
    from reportlab.platypus import SimpleDocTemplate

    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=20 * mm,
        rightMargin=20 * mm,
        topMargin=18 * mm,
        bottomMargin=18 * mm,
        title=title,
        author=author,
        invariant=1,
    )
    fonts = _fonts(markdown)
    document.build(
        flowables(markdown, document.width, fonts),
        onFirstPage=lambda canvas, page: _footer(canvas, page, fonts),
        onLaterPages=lambda canvas, page: _footer(canvas, page, fonts),
    )
    return buffer.getvalue()


def flowables(markdown: str, width: float, fonts: tuple[str, str] = ("Helvetica", "Helvetica-Bold")) -> list:
    """The blocks as reportlab flowables for a column of ``width`` points."""
    from reportlab.platypus import KeepTogether, Paragraph, Spacer

    styles = _styles(fonts)
    story: list[tuple[str, object]] = []
    for block in blocks(markdown):
        if block[0] == "heading":
            level, text = block[1]
            story.append((block[0], Paragraph(text, styles[f"heading{min(level, 3)}"])))
        elif block[0] == "paragraph":
            story.append((block[0], Paragraph(block[1], styles["body"])))
        elif block[0] == "bullets":
            story += [(block[0], Paragraph(text, styles["item"], bulletText="\u2022")) for text in block[1]]
        else:
            # A caption and the heading above it stay with their table, and a table on one page where it fits.
            group = [_table(block[1], width, fonts, styles)]
            for wanted in ("paragraph", "heading"):
                if story and story[-1][0] == wanted:
                    group.insert(0, story.pop()[1])
            story += [(block[0], KeepTogether(group)), (block[0], Spacer(1, 8))]
    return [flowable for _, flowable in story]


def _table(rows: list[list[str]], width: float, fonts: tuple[str, str], styles: dict):
    """A table no wider than the column: smaller letters first, then cells that wrap."""
    from reportlab.lib import colors
    from reportlab.pdfbase.pdfmetrics import stringWidth
    from reportlab.platypus import Paragraph, Table, TableStyle

    columns = max(len(row) for row in rows)
    rows = [row + [""] * (columns - len(row)) for row in rows]
    for size in FONT_SIZES:
        widths = [max(stringWidth(row[c], fonts[1], size) for row in rows) + 2 * PADDING + 1 for c in range(columns)]
        if sum(widths) <= width:
            break
    cells: list[list] = rows
    if sum(widths) > width:
        # The widest columns give way; a cell may then break within a word.
        limit = _share(widths, width)
        widths = [min(w, limit) for w in widths]
        style = styles["cell"]
        cells = [[Paragraph(escape(cell), style) for cell in row] for row in rows]
    look = [
        ("FONT", (0, 0), (-1, -1), fonts[0], size),
        ("FONT", (0, 0), (-1, 0), fonts[1], size),
        ("LEADING", (0, 0), (-1, -1), size + 1.5),
        ("LEFTPADDING", (0, 0), (-1, -1), PADDING),
        ("RIGHTPADDING", (0, 0), (-1, -1), PADDING),
        ("TOPPADDING", (0, 0), (-1, -1), 1),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEABOVE", (0, 0), (-1, 0), 0.8, colors.black),
        ("LINEBELOW", (0, 0), (-1, 0), 0.5, colors.black),
        ("LINEBELOW", (0, -1), (-1, -1), 0.8, colors.black),
        *(("NOSPLIT", (0, first), (0, last)) for first, last in _groups(rows)),
        # A thin line wherever the first column names something new.
        *(("LINEABOVE", (0, r), (-1, r), 0.25, colors.grey) for r in range(2, len(rows)) if rows[r][0]),
    ]
    return Table(cells, colWidths=widths, repeatRows=1, style=TableStyle(look), hAlign="LEFT", spaceBefore=4)


def _groups(rows: list[list[str]]) -> list[tuple[int, int]]:
    """First and last row of the groups that a name in the first column opens; the header is none."""
    starts = [number for number, row in enumerate(rows) if number and row[0]]
    return [(start, end - 1) for start, end in zip(starts, [*starts[1:], len(rows)], strict=True) if end - start > 1]


def _share(widths: list[float], total: float) -> float:
    """The largest limit so that widths, each cut to it, fit into the total."""
    left, rest = total, sorted(widths)
    while rest and rest[0] <= left / len(rest):
        left -= rest.pop(0)
    return left / len(rest) if rest else max(widths)


def _styles(fonts: tuple[str, str]) -> dict:
    from reportlab.lib.styles import ParagraphStyle

    body = ParagraphStyle("body", fontName=fonts[0], fontSize=9.5, leading=13, spaceAfter=6)
    head = {"fontName": fonts[1], "keepWithNext": 1}
    return {
        "body": body,
        "item": ParagraphStyle("item", body, spaceAfter=2, leftIndent=12, bulletIndent=3),
        "cell": ParagraphStyle("cell", body, fontSize=FONT_SIZES[-1], leading=FONT_SIZES[-1] + 1.5, splitLongWords=1),
        "heading1": ParagraphStyle("heading1", body, fontSize=16, leading=20, spaceAfter=8, **head),
        "heading2": ParagraphStyle("heading2", body, fontSize=11.5, leading=15, spaceBefore=8, spaceAfter=4, **head),
        "heading3": ParagraphStyle("heading3", body, fontSize=10, leading=13, spaceBefore=4, spaceAfter=3, **head),
    }


def _fonts(text: str) -> tuple[str, str]:
    """Regular and bold: the built-in Helvetica, or DejaVu Sans (it comes with matplotlib) for letters beyond it."""
    try:
        text.encode("cp1252")
        return "Helvetica", "Helvetica-Bold"
    except UnicodeEncodeError:
        pass
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or not spec.submodule_search_locations:
        return "Helvetica", "Helvetica-Bold"
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    folder = Path(spec.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"
    for name in ("DejaVuSans", "DejaVuSans-Bold"):
        pdfmetrics.registerFont(TTFont(name, str(folder / f"{name}.ttf")))
    pdfmetrics.registerFontFamily("DejaVuSans", normal="DejaVuSans", bold="DejaVuSans-Bold")
    return "DejaVuSans", "DejaVuSans-Bold"


def _footer(canvas, page, fonts: tuple[str, str]) -> None:
    canvas.saveState()
    canvas.setFont(fonts[0], 8)
    canvas.drawCentredString(page.pagesize[0] / 2, page.bottomMargin / 2, str(canvas.getPageNumber()))
    canvas.restoreState()
