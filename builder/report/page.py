"""A page: sections and charts in one HTML file that works from anywhere, light and dark.

It fetches nothing, and its own policy (Content-Security-Policy) forbids it to: only the two scripts whose hashes stand
there run. Plotly's script is packed into the page and unpacked by the browser; without charts it is left out.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.durable import plain, write_text
from builder.report.charts import Chart
from builder.report.markup import Markup, join, tag

HERE = pathlib.Path(__file__).parent
LEVEL = 6
"""Of gzip: the highest one takes longer and saves 0.2 %."""


@dataclass(slots=True)
class Page:
    """A page that is being put together, section by section."""

    title: str
    subtitle: str = ""
    _sections: list[tuple[str, str, Markup]] = field(default_factory=list)
    _figures: list[dict[str, Any]] = field(default_factory=list)

    def section(self, title: str, *parts: object) -> None:
        """Add a section of markup, texts and charts; one without any is left out."""
        made = [self.chart(part) if isinstance(part, Chart) else part for part in parts if part is not None]
        if made:
            self._sections.append((f"s{len(self._sections)}", title, join(made)))

    def chart(self, chart: Chart) -> Markup:
        """The place of a chart, for a section."""
        self._figures.append(chart.figure())
        name, said = f"c{len(self._figures) - 1}", f"chart: {chart.title}"
        place = tag("div", class_="chart", id=name, role="img", aria_label=said)
        return tag("figure", tag("figcaption", chart.title), place, chart.values)

    def charts(self, charts: Sequence[Chart]) -> Markup | None:
        """The places of charts, side by side where the window is wide enough; None for none."""
        return tag("div", *map(self.chart, charts), class_="charts") if charts else None

    def html(self) -> str:
        """The whole page."""
        scripts, policy = _scripts(bool(self._figures))
        links = [tag("a", title, href=f"#{place}") for place, title, _ in self._sections]
        sections = [tag("section", tag("h2", title), body, id=place) for place, title, body in self._sections]
        head = tag(
            "head", tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=policy),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", self.title), tag("style", Markup(_file("page.css"))),
        )  # fmt: skip
        toggle = tag("button", "light / dark", id="theme", type="button", hidden=True)
        title = tag("div", tag("h1", self.title), tag("p", self.subtitle, class_="note") if self.subtitle else None)
        body = tag(
            "body", tag("header", title, toggle), tag("nav", *links), tag("main", *sections),
            tag("p", "The charts need scripts, and a browser of 2023 or later. Their values stand under them.",
                id="trouble", class_="note", hidden=True),
            tag("noscript", tag("p", "Without scripts there are no charts; their values stand in the tables.")),
            _data("figures", self._figures), *scripts,
        )  # fmt: skip
        return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"

    def write(self, path: pathlib.Path) -> None:
        """Write the page.

        Raises:
            RunError: the system refuses.
        """
        write_text(path, self.html())


def _scripts(with_charts: bool) -> tuple[list[Markup], str]:
    """The scripts of a page, and the policy that lets them run and nothing else."""
    own = _file("page.js")
    allowed = [_allowance(own)]
    scripts = [tag("script", Markup(own))]
    if with_charts:
        packed, allowance = _plotly()
        allowed.append(allowance)
        scripts.insert(0, tag("script", Markup(packed), type="text/plain", id="plotly"))
    policy = {
        "default-src": "'none'", "script-src": " ".join(allowed), "style-src": "'unsafe-inline'",
        "img-src": "data: blob:", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    return scripts, "; ".join(f"{name} {value}" for name, value in policy.items())


@functools.cache
def _plotly() -> tuple[str, str]:
    """Plotly's script, packed and as text, and what allows it to run."""
    from plotly.offline import get_plotlyjs

    script = get_plotlyjs()
    packed = gzip.compress(script.encode(), LEVEL, mtime=0)
    return base64.b64encode(packed).decode("ascii"), _allowance(script)


def _allowance(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"


@functools.cache
def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _data(name: str, value: Any) -> Markup:
    """Plain values that the page's script reads; nothing in them can end the element."""
    text = json.dumps(plain(value), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return tag("script", Markup(text.replace("<", "\\u003c")), type="application/json", id=name)


def badge(text: str, kind: str) -> Markup:
    """A word in a coloured field; `kind` is that of a run's state, or any other word."""
    return tag("span", text, class_=f"badge {kind}")


def picture(svg: str, title: str) -> Markup:
    """An SVG as a picture: what is in it can't reach the page, nor run."""
    data = base64.b64encode(svg.encode()).decode("ascii")
    return tag("div", tag("img", src=f"data:image/svg+xml;base64,{data}", alt=title), class_="picture scroll")


def details(title: str, *parts: object, opened: bool = False) -> Markup:
    """What is folded away until somebody asks for it."""
    return tag("details", tag("summary", title), *parts, open=opened)


def shares(parts: Mapping[str, object]) -> Markup:
    """Figures that stand out: a large value over its name."""
    tiles = (tag("div", tag("b", value), tag("span", name)) for name, value in parts.items())
    return tag("div", *tiles, class_="tiles")
