"""Text without what changes from one execution to the next although nothing of the result does.

Left in place is whatever could be a result. So a date or time goes only if it lies within the execution that printed
it, and a duration only where the words around it say that it is one: `took 3.2 s`, not `mean delay 3.2 min`.
"""

from __future__ import annotations

import re

from kit.compare.moments import Window as Window
from kit.compare.moments import replace_moments

# ECMA-48: erasing to the end of the line matters for what remains visible, colours do not.
_ERASE = re.compile(r"\x1b\[[02]?K")
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\^_]")
_ERASED = "\x00"

_NUMBER = r"\d+(?:[.,]\d+)?(?:[eE][-+]?\d+)?"
_SECONDS = r"(?:[mµμun]?s|secs?|seconds?|milliseconds?|microseconds?|nanoseconds?)"
_UNIT = rf"(?:{_SECONDS}|m|mins?|minutes?|h|hrs?|hours?|days?)"
_DURATION = rf"(?:\d+:\d\d(?::\d\d)?(?:\.\d+)?|{_NUMBER} ?{_UNIT}\b(?:[ ,]+(?:and )?{_NUMBER} ?{_UNIT}\b)*)"
_TIMERS = (
    r"took|elapsed|time taken|(?:wall|cpu|run|training|fit(?:ting)?|load(?:ing)?|elapsed|execution)[ _-]?time"
    r"|(?:finished|done|completed|trained|fitted|ran|loaded|executed) (?:in|for|after)"
)
_ELAPSED = r"(?:\d+(?:\.\d+)?[mun]?s|\d+:\d\d(?::\d\d)?)"
_STEP = r"(?:step|epoch|it|iter|sample|batch|example|row)"
_PART = r"(?:[\w.@+~=,-]|<[a-z]+(?: [\w-]+)?>)+"  # of a path; some may be replaced already

# Before dates and times are, which these hold
_FIRST_RULES = (
    (re.compile(r"\b\d{8}T\d{6}Z-([A-Za-z][\w-]*?)-[0-9a-f]{6}\b"), r"<record \1>"),
    # absl and TensorFlow: severity and date, time of day or seconds, thread
    (re.compile(r"(?m)^([IWEF])\d{4} \d\d:\d\d:(?:\d{10}|\d\d)\.\d+ +\d+ "), r"\1<time> "),
)
_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # tqdm: what is in brackets is time and rate; counts and what the notebook put behind stay
        (r"\[[\d:?]+<[\d:?]+(?:, *[^,\]]*/[^,\]]+)?((?:, [^\]]*)?)\]", r"[<progress>\1]"),
        # Keras: `5s 12ms/step`, `- 5s - 12ms/step`
        (rf"(?:\b{_ELAPSED} (?:- )?)?\b{_NUMBER} ?[mµμun]?s/({_STEP})\b", r"<duration>/\1"),
        (rf"\b{_NUMBER} ?(it|iter|steps?|samples|rows|examples|batch(?:es)?|[kMG]?i?B)/s\b", r"<rate> \1/s"),
        # %timeit and %time
        (rf"(?<![\w.]){_NUMBER} ?{_SECONDS} ± {_NUMBER} ?{_SECONDS} per loop.*", "<duration> per loop"),
        (rf"\b(CPU times:) user {_DURATION}, sys: {_DURATION}, total: {_DURATION}", r"\1 <duration>"),
        (rf"(?i)\b({_TIMERS})\b([ :=~]{{0,3}}(?:about )?){_DURATION}", r"\1\2<duration>"),
        (rf"(?i)\b(elapsed|(?:wall|cpu|elapsed)[ _-]time)([ :=]{{1,3}}){_NUMBER}\b", r"\1\2<duration>"),
        (rf"(?i)\b(in|time)([ :=]{{1,3}}){_NUMBER} ?{_SECONDS}\b", r"\1\2<duration>"),
        (r"([(\[])\d+\.\d+[mµμun]?s([)\]])", r"\1<duration>\2"),
        (rf"(?<![\w.:]){_DURATION}( elapsed)\b", r"<duration>\1"),
        # addresses, processes, ports
        (r"\b(at )0x[0-9a-fA-F]{4,16}\b", r"\1<address>"),
        (r"\b0x(?:0000)?(?:7[ef]|5[56])[0-9a-fA-F]{10}\b", "<address>"),
        (r"(?i)\b(p(?:rocess )?id)(\W{1,3})\d+\b", r"\1\2<process>"),
        (r"(127\.0\.0\.1|localhost|\[::1\]):\d{2,5}\b", r"\1:<port>"),
        # where a file lies is no result, its name may be one
        (r"(?:/private)?(?:/var)?/tmp/[\w.@+~=-]+|/var/folders/\w+/\w+/T/[\w.@+~=-]+", "<temporary>"),
        (r"(?<=/)tmp[a-z0-9_]{8}(?![a-z0-9_])", "<temporary>"),
        (rf"(?<![\w.:/<>])(?:file://)?/(?:{_PART}/)+", "<path>/"),
        (r"(?<!\w)[A-Za-z]:\\(?:[^\\\s:*?\"<>|]+\\)+", "<path>/"),
    )
)

_HEX = "[0-9a-f]"
_MARKUP_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (rf"\b{_HEX}{{8}}-{_HEX}{{4}}-4{_HEX}{{3}}-[89ab]{_HEX}{{3}}-{_HEX}{{12}}\b", "<id>"),  # uuid4
        (rf"((?:id=[\"']|#)T_){_HEX}{{5}}(?=_|\b)", r"\1<id>"),  # pandas' Styler
        # Matplotlib's SVG: a kind and ten digits, see RendererSVG._make_id
        (rf"(id=\"|#)(image|[a-zA-Z]){_HEX}{{10}}\b", r"\1\2<id>"),
        (r"<dc:date>[^<]*</dc:date>", "<dc:date/>"),
    )
)


def normalise_text(text: str, window: Window | None = None) -> str:
    """What remains of plain text when all that is volatile is replaced by a word in angle brackets.

    Args:
        text: as an output holds it, with control characters.
        window: start and end of the execution, aware; without it dates and times stay.
    """
    lines = re.sub(r"\r+\n", "\n", _ERASE.sub(_ERASED, text)).split("\n")
    visible = _ANSI.sub("", "\n".join(map(_visible, lines)))
    for pattern, replacement in _FIRST_RULES:
        visible = pattern.sub(replacement, visible)
    if window:
        visible = replace_moments(visible, window)
    for pattern, replacement in _RULES:
        visible = pattern.sub(replacement, visible)
    return "\n".join(line.rstrip() for line in visible.split("\n")).rstrip("\n")


def normalise_markup(text: str, window: Window | None = None) -> str:
    """The same for HTML and SVG, whose random ids go as well."""
    for pattern, replacement in _MARKUP_RULES:
        text = pattern.sub(replacement, text)
    return normalise_text(text, window)


def _visible(line: str) -> str:
    """What a terminal shows of a line after carriage returns, backspaces and erasing, as progress bars use them."""
    if not any(control in line for control in ("\r", "\b", _ERASED)):
        return line
    shown: list[str] = []
    column = 0
    for character in _ANSI.sub("", line):
        match character:
            case "\r":
                column = 0
            case "\b":
                column = max(column - 1, 0)
            case "\x00":
                del shown[column:]
            case _:
                shown[column : column + 1] = [character]
                column += 1
    return "".join(shown)
