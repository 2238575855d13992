"""A self-contained HTML document: style, pictures, plotly.js and its figures in one file that needs no network."""

import base64
import gzip
import json
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np

QUALITY = 90  # of WebP
# the browser itself refuses whatever would be fetched or sent
POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_ASSETS = Path(__file__).parent / "page_assets"
_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
<script type="application/json" id="figures">{figures}</script>
<script type="text/plain" id="plotly">{plotly}</script>
<script>{script}</script>
</body>
</html>
"""


def write_document(path: Path, title: str, body: str, figures: Sequence[dict]) -> None:
    """Write the document.

    Args:
        path: the file; replaced where it exists, its folder is made.
        title: plain text.
        body: HTML; what came from outside is escaped already.
        figures: plotly figures (`data` and `layout`), drawn into the elements of `slot`; what else page.js reads of
            them stands in `lightning_modules.page`.
    """
    path = Path(path)
    html = _TEMPLATE.format(
        policy=POLICY,
        title=escape(title),
        style=(_ASSETS / "page.css").read_text(),
        body=body,
        figures=_json(list(figures)),
        plotly=_plotly(),
        script=(_ASSETS / "page.js").read_text(),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8")
    except OSError as error:  # of a full disk, without the file's name
        raise OSError(f"{path}: the page cannot be written ({error.strerror}); make room, or name another") from error


def slot(figure: int, what: str) -> str:
    """HTML of the place that figure `figure` of the document is drawn into; `what` it shows, for those who hear."""
    return f'<div class="plot" data-figure="{figure}" role="img" aria-label="{escape(what)}"></div>'


def picture_url(picture: np.ndarray, longest: int) -> str:
    """The picture as a data URL.

    Args:
        picture: (H, W, 3) uint8, RGB.
        longest: pixels; a picture with a longer side is made smaller.
    """
    shrink = longest / max(picture.shape[:2])
    bgr = np.ascontiguousarray(picture[..., ::-1])
    if shrink < 1:
        bgr = cv2.resize(bgr, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1]
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"


def array(values: np.ndarray) -> dict[str, str]:
    """Numbers as plotly.js reads them without parsing: float32 or int32 in base64, rows and columns where 2D."""
    values = np.ascontiguousarray(values, np.float32 if np.issubdtype(values.dtype, np.floating) else np.int32)
    written = {"dtype": "f4" if values.dtype == np.float32 else "i4", "bdata": base64.b64encode(values).decode()}
    return written | ({"shape": ", ".join(map(str, values.shape))} if values.ndim > 1 else {})


def _json(value: object) -> str:
    """JSON that no script element ends in; strict: a number that is none would not be JSON."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


@cache
def _plotly() -> str:
    """plotly.js in base64, compressed: 2 MB instead of 5."""
    source = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(source, mtime=0)).decode()
