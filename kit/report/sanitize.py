"""Untrusted outputs as inert HTML: nothing that comes out of here can run, load, submit, or leave its place.

Notebook outputs are data of others. HTML passes an allow-list (nh3), pictures are embedded as data, SVG is rebuilt from
an allow-list and shown as a picture (where browsers run no script), mathematics becomes MathML and passes the same
allow-list.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import xml.etree.ElementTree as ET

MEDIA_TYPES = (
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "text/html",
    "text/markdown",
    "text/latex",
    "text/plain",
)


def _names(text: str) -> set[str]:
    return set(text.split())


_MATH_TAGS = _names(
    "math mrow mi mo mn mtext mfrac msqrt mroot msub msup msubsup mover munder munderover mtable mtr mtd mspace mstyle "
    "mpadded mphantom menclose"
)
_TAGS = _MATH_TAGS | _names(
    "a abbr b blockquote br caption cite code col colgroup dd del details dfn div dl dt em figcaption figure h1 h2 h3 h4 "
    "h5 h6 hr i img ins kbd li mark ol p pre q s samp small span strong sub summary sup table tbody td tfoot th thead "
    "time tr u ul var wbr"
)
_ATTRIBUTES = {
    "a": {"href", "title"},
    "abbr": {"title"},
    "img": {"src", "alt", "title", "width", "height"},
    "ol": {"start"},
    "th": {"colspan", "rowspan", "scope"},
    "td": {"colspan", "rowspan"},
    "math": {"display"},
    "mi": {"mathvariant"},
    "mo": {"stretchy"},
    "span": {"class"},
    "div": {"class"},
    **{f"h{level}": {"id"} for level in range(2, 7)},
}
_DROPPED_WHOLE = {"script", "style", "title", "head", "template", "iframe", "object", "noscript", "svg", "textarea"}
_HEADING_ID = re.compile(r"s-\d+-\d+")
_CODE_CLASS = re.compile(r"highlight|[a-z][a-z0-9]?|ansi-[a-z-]+")
_PICTURE = re.compile(r"data:image/(png|jpeg|gif|svg\+xml);base64,[A-Za-z0-9+/=\s]+")

_SVG = "http://www.w3.org/2000/svg"
_XLINK_HREF = "{http://www.w3.org/1999/xlink}href"
_SVG_TAGS = _names(
    "svg g defs path rect circle ellipse line polyline polygon text tspan clipPath mask pattern marker linearGradient "
    "radialGradient stop use symbol title desc image"
)
_URL_IN_STYLE = re.compile(r"url\(\s*['\"]?(?!#)|@import|expression|\\", re.IGNORECASE)


def clean_html(text: str) -> str:
    """HTML with its structure (headings, tables, lists, pictures, MathML) and nothing active."""
    import nh3

    return nh3.clean(
        text,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        clean_content_tags=_DROPPED_WHOLE,
        attribute_filter=_keep_attribute,
        url_schemes={"http", "https", "mailto", "data"},
        link_rel="noopener noreferrer nofollow",
    )


def _keep_attribute(tag: str, name: str, value: str) -> str | None:
    match name:
        case "src":
            return value if _PICTURE.fullmatch(value) else None
        case "href":
            return value if value.startswith(("https://", "http://", "mailto:", "#")) else None
        case "id":
            return value if _HEADING_ID.fullmatch(value) else None
        case "class":
            return " ".join(part for part in value.split() if _CODE_CLASS.fullmatch(part)) or None
    return value


def embed_picture(media_type: str, data: str) -> str | None:
    """A picture of a notebook output as a data URL; None if its data is not what it says."""
    if media_type == "image/svg+xml":
        svg = clean_svg(data)
        return None if svg is None else f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
    try:
        content = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    magic = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}[media_type]
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}" if content.startswith(magic) else None


def clean_svg(text: str) -> bytes | None:
    """A drawing rebuilt from allowed elements, without script, event handlers and references outside itself."""
    if "<!ENTITY" in text.upper():
        return None
    try:
        root = ET.fromstring(text)
    except (ET.ParseError, ValueError):
        return None
    if root.tag != f"{{{_SVG}}}svg":
        return None
    _clean_element(root)
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    return bytes(ET.tostring(root, encoding="utf-8"))


def _clean_element(element: ET.Element) -> None:
    for name, value in list(element.attrib.items()):
        if not _is_safe_svg_attribute(name, value):
            del element.attrib[name]
    for child in list(element):
        namespace, _, tag = child.tag.partition("}") if isinstance(child.tag, str) else ("", "", "")
        if tag == "style" and not _URL_IN_STYLE.search("".join(child.itertext())):
            child[:] = []
            child.attrib.clear()
        elif namespace == f"{{{_SVG}" and tag in _SVG_TAGS:
            _clean_element(child)
        else:
            element.remove(child)


def _is_safe_svg_attribute(name: str, value: str) -> bool:
    local = name.rpartition("}")[2].lower()
    if local.startswith("on"):
        return False
    if name == _XLINK_HREF or local in ("href", "src"):
        return value.startswith("#") or _PICTURE.fullmatch(value) is not None
    return not _URL_IN_STYLE.search(value)


def render_math(latex: str, display: bool) -> str:
    """LaTeX as MathML; where it cannot be converted, the LaTeX itself as code."""
    from latex2mathml.converter import convert

    # the converter knows the starred environment, not the one for use inside $$ … $$
    source = re.sub(r"(\\(?:begin|end)\{)(?:aligned|split|gathered)\}", r"\1align*}", latex.strip())
    try:
        return clean_html(convert(source, display="block" if display else "inline"))
    except Exception:  # noqa: BLE001 - the converter raises many kinds for LaTeX it does not know; show the source then
        return f"<code>{html.escape(latex)}</code>"


def render_ansi(text: str) -> str:
    """Terminal text, colours as classes."""
    from nbconvert.filters.ansi import ansi2html

    return clean_html(str(ansi2html(text)))
