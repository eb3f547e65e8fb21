"""Real documents of each kind, made here."""

import io
import zipfile

import docx
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen import canvas

SENTENCE = "The mill by the river grinds the grain of the valley with the water that the headrace brings."


def pdf(
    pages: int = 3, *, title: str = "The Mill", text: bool = True, outline: bool = True, picture: bool = False,
    password: str = "", owner: str = "", lines: int = 30,
) -> bytes:  # fmt: skip
    out = io.BytesIO()
    encrypt = None
    if password or owner:
        from reportlab.lib.pdfencrypt import StandardEncryption

        encrypt = StandardEncryption(password, ownerPassword=owner or "owner", canPrint=0, strength=128)
    made = canvas.Canvas(out, pagesize=A4, encrypt=encrypt)
    made.setTitle(title)
    for page in range(pages):
        if text:
            made.setFont("Helvetica", 16)
            made.drawString(60, 790, f"Chapter {page + 1}")
            if outline:
                made.bookmarkPage(f"c{page}")
                made.addOutlineEntry(f"Chapter {page + 1}", f"c{page}")
            made.setFont("Helvetica", 9)
            for line in range(lines):
                made.drawString(60, 770 - 12 * line, f"{page + 1}.{line} {SENTENCE}")
        if picture:
            from PIL import Image
            from reportlab.lib.utils import ImageReader

            made.drawImage(ImageReader(Image.new("RGB", (200, 200), "white")), 0, 0, 500, 700)
        made.showPage()
    made.save()
    return out.getvalue()


def word(paragraphs: int = 20, *, title: str = "The Mill") -> bytes:
    document = docx.Document()
    document.core_properties.title = title
    document.add_heading("The Mill", 0)
    document.add_paragraph("This is the lead of the document.")
    for number in range(paragraphs):
        document.add_heading(f"Part {number}", 1)
        document.add_paragraph(f"{number}: {SENTENCE}")
    table = document.add_table(2, 2)
    for at, text in enumerate(("stone", "2 t", "wheel", "5 m")):
        table.cell(at // 2, at % 2).text = text
    document.add_heading("Conclusions", 1)
    document.add_paragraph("The mill works.")
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def repacked(data: bytes, parts: dict[str, bytes]) -> bytes:
    """The package with other parts."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, parts.get(name, old.read(name)))
    return out.getvalue()


def page(paragraphs: int = 20, *, more: str = "", charset: str = "utf-8", language: str = "en") -> str:
    menu = "".join(f"<li><a href='/menu/{number}'>Menu {number}</a></li>" for number in range(20))
    body = "".join(
        f"<h2>Part {number}</h2><p>{number}: {SENTENCE} See <a href='/part/{number}#x'>part {number}</a>.</p>"
        for number in range(paragraphs)
    )
    return (
        f"<!DOCTYPE html><html lang='{language}'><head><meta charset='{charset}'><title>The Mill | A site</title>"
        f"<style>p {{ color: red }}</style><script>var hidden = 'not to be read';</script></head><body><nav><ul>{menu}</ul>"
        f"</nav><main><article><h1>The Mill</h1><p>This is the lead of the page, and it is grün.</p>{body}{more}"
        "<table><tr><th>part</th><th>size</th></tr><tr><td>stone</td><td>2 t</td></tr></table></article></main>"
        "<footer>Imprint, cookies, and all the rest of it</footer></body></html>"
    )
