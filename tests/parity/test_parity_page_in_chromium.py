"""The page of a parity run in a real browser: it draws, fits a phone, and follows the theme.

`NXMI_CHROMIUM` names a browser that is not on the path.
"""

import os
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from parity_pages import artefact, document, engine

from nxmi_export.report.parity_page import parity_page
from tests.html_reader import read_html

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")
_OFFLINE = ("--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND")
_DARK = "--blink-settings=preferredColorScheme=0"
# Runs after the page is laid out, in a frame as wide as a phone, which a window may not be.
_MEASURE = """<!doctype html><title>wait</title><body><iframe id="page" src="page.html"
 style="width: {width}px; height: 800px; border: 0"></iframe><p id="found"></p><script>
onload = () => {{
  const page = document.getElementById("page").contentDocument;
  const shown = all => [...all].filter(each => each.getClientRects().length).length;
  document.getElementById("found").textContent = [
    page.documentElement.scrollWidth, shown(page.querySelectorAll(".wide svg")),
    shown(page.querySelectorAll(".narrow svg")), shown(page.querySelectorAll("thead")),
    [...page.querySelectorAll("table")].filter(each =>
      each.getClientRects().length && each.scrollWidth > each.parentElement.clientWidth).length,
    getComputedStyle(page.querySelector("table")).display,
  ].join(" ");
}};
</script>"""


@pytest.fixture(scope="session")
def chromium() -> str:
    names = [named] if (named := os.environ.get("NXMI_CHROMIUM")) else _NAMES
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is on the path; set NXMI_CHROMIUM")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    if version.returncode:
        pytest.skip(f"no browser: {found} does not start: {version.stderr.strip()[-200:]}")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    page = parity_page(document(), artefact(), engine=engine(), commands=("a b",))
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    return tmp_path


def browse(chromium: str, file: Path, *options: str) -> str:
    run = subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", *_OFFLINE, *options),
            *("--allow-file-access-from-files", f"--user-data-dir={file.parent / 'profile'}"),
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return run.stdout


def measured(chromium: str, folder: Path, width: int) -> list[str]:
    path = folder / f"measure-{width}.html"
    path.write_text(_MEASURE.format(width=width), encoding="utf-8")
    page = read_html(browse(chromium, path, "--dump-dom").replace("<!DOCTYPE html>", ""))
    return page.all("p", id="found")[0].text.split()


@pytest.mark.parametrize(
    ("width", "wide", "narrow", "layout"), [(390, 0, 2, "block"), (1000, 2, 0, "table")]
)
def test_the_page_fits_its_window_and_shows_one_of_the_two_pictures(
    chromium: str, folder: Path, width: int, wide: int, narrow: int, layout: str
) -> None:
    scroll_width, shown_wide, shown_narrow, heads, too_wide, display = measured(
        chromium, folder, width
    )
    assert int(scroll_width) <= width
    assert (int(shown_wide), int(shown_narrow)) == (wide, narrow)
    assert (display, int(too_wide)) == (layout, 0)
    assert int(heads) > 0  # off the phone's screen, and still there for a screen reader


@pytest.mark.parametrize(
    ("options", "ground"), [((), (255, 255, 255)), ((_DARK,), (0x0D, 0x11, 0x17))]
)
def test_the_ground_follows_the_theme(
    chromium: str, folder: Path, options: tuple[str, ...], ground: tuple[int, int, int]
) -> None:
    picture = folder / "page.png"
    browse(
        chromium,
        folder / "page.html",
        *("--window-size=1000,500", f"--screenshot={picture}", *options),
    )
    width, rows = pixels(picture.read_bytes())
    assert width == 1000
    assert rows[2][:3] == bytes(ground)
    # Something was drawn on it: text, lines and signs of many shades.
    assert len({row[at : at + 3] for row in rows[::4] for at in range(0, 3 * width, 12)}) > 50


def pixels(png: bytes) -> tuple[int, list[bytes]]:
    """The width, and the rows as RGB, of a PNG as browsers write it: 8 bits, not interlaced."""
    at, data, header = 8, b"", b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        header = content if kind == b"IHDR" else header
        data += content if kind == b"IDAT" else b""
        at += 12 + length
    width, _, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    channels = {2: 3, 6: 4}[colour]
    assert (depth, interlaced) == (8, 0)
    raw, stride = zlib.decompress(data), width * channels
    rows, above = [], bytes(stride)
    for start in range(0, len(raw), stride + 1):
        above = unfiltered(raw[start], raw[start + 1 : start + 1 + stride], above, channels)
        rows.append(
            above if channels == 3 else b"".join(above[i : i + 3] for i in range(0, stride, 4))
        )
    return width, rows


def unfiltered(kind: int, line: bytes, above: bytes, step: int) -> bytes:
    """One row, its filter undone: PNG specification, section 9."""
    row = bytearray(line)
    for at in range(len(row)):
        left = row[at - step] if at >= step else 0
        corner = above[at - step] if at >= step else 0
        row[at] = (row[at] + predicted(kind, left, above[at], corner)) % 256
    return bytes(row)


def predicted(kind: int, left: int, up: int, corner: int) -> int:
    if kind == 4:
        distances = (abs(up - corner), abs(left - corner), abs(left + up - 2 * corner))
        return (left, up, corner)[distances.index(min(distances))]
    return (0, left, up, (left + up) // 2)[kind]
