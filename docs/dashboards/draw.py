"""Draws the dashboards as PNGs from a Prometheus, since no Grafana is needed to see what they show.

    python docs/dashboards/draw.py HOST:PORT START END [--window 30s] [--out docs/dashboards]

START and END are unix seconds. Layout, titles, units and expressions are those of the chart's dashboards; the look is only like
Grafana's.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

DASHBOARDS = Path(__file__).parents[2] / "charts/visionr1-ptst/dashboards"
CELL, LINE, GAP, SCALE = 42, 26, 6, 2
COLOURS = ("#3274d9", "#e0752d", "#299c46", "#b877d9", "#c4162a", "#8f7a00", "#1f8a8a", "#777777", "#d683ce", "#56a64b")
INK, FAINT, BACK, PAPER = "#24292e", "#9aa0a6", "#f4f5f5", "#ffffff"
POINTS = 120
LEGENDS = 4

Series = tuple[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class Source:
    """A Prometheus and the time that is drawn."""

    address: str
    start: float
    end: float
    window: str

    def ask(self, expression: str, legend: str) -> list[Series]:
        """Finite points of each series, called as in Grafana."""
        values = {"namespace": ".*", "run": ".*", "pod": ".*", "window": self.window}
        filled = re.sub(r"\$(\w+)", lambda match: values[match[1]], expression)
        step = max(0.25, (self.end - self.start) / POINTS)
        parameters = urllib.parse.urlencode({"query": filled, "start": self.start, "end": self.end, "step": step})
        with urllib.request.urlopen(f"http://{self.address}/api/v1/query_range?{parameters}", timeout=60) as answer:
            found = json.load(answer)["data"]["result"]
        return [
            (
                named(legend, series["metric"]),
                [(at, float(value)) for at, value in series["values"] if math.isfinite(float(value))],
            )
            for series in found
        ]


def named(legend: str, labels: dict[str, str]) -> str:
    """The legend with a series' labels in it."""
    return " ".join(re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), legend).split())


def shown(value: float, unit: str) -> str:
    """A number as the panel's unit writes it."""
    match unit:
        case "percentunit":
            return f"{100 * value:.3g} %"
        case "percent":
            return f"{value:.3g} %"
        case "s":
            return f"{value:.3g} s" if value < 100 else f"{value / 60:.3g} min"
        case "bytes" | "decmbytes":
            return next(
                f"{value / size:.3g} {name}"
                for size, name in ((2**30, "GiB"), (2**20, "MiB"), (1, "B"))
                if abs(value) >= size or size == 1
            )
        case "sci":
            return f"{value:.2e}"
        case _:
            return f"{value:,.4g}"


class Canvas:
    """Text, lines and boxes, in the sizes of a screen."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width * SCALE, height * SCALE), BACK)
        self._draw = ImageDraw.Draw(self.image)

    def text(
        self, x: float, y: float, said: str, colour: str = INK, size: int = 11, width: float = 1e9, right: bool = False
    ) -> None:
        font = ImageFont.load_default(size * SCALE)
        while said and font.getlength(said) > width * SCALE:
            said = said[:-2].rstrip("…") + "…" if len(said) > 2 else ""
        self._draw.text((x * SCALE, y * SCALE), said, fill=colour, font=font, anchor="ra" if right else "la")

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self._draw.rectangle([x * SCALE, y * SCALE, (x + width) * SCALE, (y + height) * SCALE], fill=colour)

    def line(self, points: list[tuple[float, float]], colour: str, width: float = 1.5) -> None:
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        self._draw.line(scaled if len(scaled) > 1 else scaled * 2, fill=colour, width=max(1, round(width * SCALE)))

    def area(self, points: list[tuple[float, float]], colour: str) -> None:
        self._draw.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=colour)


def draw(board: dict[str, Any], source: Source) -> Image.Image:
    """The picture of a dashboard, given as Grafana's JSON."""
    laid = board["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in laid) * LINE + 40
    canvas = Canvas(24 * CELL, height)
    canvas.text(GAP + 4, 10, board["title"], size=15)
    (stage_begins,) = board["annotations"]["list"]
    borders = sorted({point[1] / 1000 for _, points in source.ask(stage_begins["expr"], "") for point in points})
    for panel in laid:
        at = panel["gridPos"]
        x, y, width, tall = at["x"] * CELL + GAP / 2, at["y"] * LINE + 38, at["w"] * CELL - GAP, at["h"] * LINE - GAP
        if panel["type"] == "row":
            canvas.text(x + 4, y + 2, panel["title"], size=12)
            continue
        canvas.box(x, y, width, tall, PAPER)
        canvas.text(x + 8, y + 6, panel["title"], width=width - 16, size=12)
        series = [one for target in panel["targets"] for one in source.ask(target["expr"], target["legendFormat"]) if one[1]]
        place = (x + 8, y + 26, width - 16, tall - 32)
        if not series:
            canvas.text(x + 8, y + tall / 2, "no data in this run", FAINT)
        elif panel["type"] in ("stat", "gauge"):
            newest(canvas, series, panel, place)
        elif panel["type"] == "heatmap":
            heatmap(canvas, series, source, place)
        else:
            graph(canvas, series, panel, source, place, borders)
    return canvas.image.resize((canvas.image.width * 3 // 4, canvas.image.height * 3 // 4), Image.Resampling.LANCZOS)


def newest(canvas: Canvas, series: list[Series], panel: dict[str, Any], place: tuple[float, float, float, float]) -> None:
    x, y, width, _ = place
    latest = max(points[-1][0] for _, points in series)
    alive = [(name, points[-1][1]) for name, points in series if points[-1][0] == latest]
    each = width / len(alive)
    for number, (name, value) in enumerate(alive):
        canvas.text(x + number * each, y, name, FAINT, 10, each)
        canvas.text(x + number * each, y + 15, shown(value, panel["fieldConfig"]["defaults"]["unit"]), size=19, width=each)


def graph(
    canvas: Canvas,
    series: list[Series],
    panel: dict[str, Any],
    source: Source,
    place: tuple[float, float, float, float],
    borders: list[float],
) -> None:
    x, y, width, tall = place
    names = list(dict.fromkeys(name for name, _ in series))
    tall -= 13 * min(len(names), LEGENDS)
    left = x + 58
    unit, stacked = (
        panel["fieldConfig"]["defaults"]["unit"],
        panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal",
    )
    base: dict[float, float] = {}
    drawn = []
    for name, points in series:
        floor = [(at, base.get(at, 0.0) if stacked else 0.0) for at, _ in points]
        top = [(at, low + value) for (at, low), (_, value) in zip(floor, points, strict=True)]
        base.update(top)
        drawn.append((name, floor, top))
    values = [value for _, _, top in drawn for _, value in top] + ([0.0] if stacked or unit == "percentunit" else [])
    low, high = min(values), max(values)
    if high == low:
        low, high = (low - 0.5 * abs(low), high + 0.5 * abs(high)) if low else (0.0, 1.0)

    def across(at: float) -> float:
        return left + (at - source.start) / (source.end - source.start) * (x + width - left)

    def up(value: float) -> float:
        return y + tall - (value - low) / (high - low) * tall

    for part in (0.0, 0.5, 1.0):
        value = low + part * (high - low)
        canvas.line([(left, up(value)), (x + width, up(value))], "#e6e8ea", 0.5)
        canvas.text(left - 5, up(value) - 6, shown(value, unit), FAINT, 10, right=True)
    for border in borders:
        canvas.line([(across(border), y), (across(border), y + tall)], "#8ab8ff", 0.7)
    for name, floor, top in drawn:
        colour = COLOURS[names.index(name) % len(COLOURS)]
        for run_floor, run_top in zip(pieces(floor, source), pieces(top, source), strict=True):
            if stacked and len(run_top) > 1:
                canvas.area(
                    [(across(a), up(v)) for a, v in run_top] + [(across(a), up(v)) for a, v in reversed(run_floor)], colour
                )
            canvas.line([(across(a), up(v)) for a, v in run_top], colour)
    legend(canvas, names, x, y + tall, width)


def legend(canvas: Canvas, names: list[str], x: float, y: float, width: float) -> None:
    for number, name in enumerate(names[:LEGENDS]):
        more = f"   (and {len(names) - LEGENDS} more)" if number == LEGENDS - 1 and len(names) > LEGENDS else ""
        canvas.box(x, y + 8 + 13 * number, 9, 3, COLOURS[number % len(COLOURS)])
        canvas.text(x + 14, y + 3 + 13 * number, name + more, size=10, width=width - 14)


def pieces(points: list[tuple[float, float]], source: Source) -> list[list[tuple[float, float]]]:
    """Points without a gap between them: a series that ended is not drawn on."""
    step = max(0.25, (source.end - source.start) / POINTS)
    found: list[list[tuple[float, float]]] = []
    for point in points:
        if not found or point[0] - found[-1][-1][0] > 1.5 * step:
            found.append([])
        found[-1].append(point)
    return found


def heatmap(canvas: Canvas, series: list[Series], source: Source, place: tuple[float, float, float, float]) -> None:
    x, y, width, tall = place
    rising = sorted(series, key=lambda one: float(one[0].replace("+Inf", "inf")))
    step = max(0.25, (source.end - source.start) / POINTS)
    below: dict[float, float] = {}
    cells = []
    for row, (name, points) in enumerate(rising):
        for at, value in points:
            cells.append((row, at, max(0.0, value - below.get(at, 0.0))))
            below[at] = value
        canvas.text(x + 50, y + tall - (row + 1) * tall / len(rising), name, FAINT, 10, right=True)
    highest = max((count for _, _, count in cells), default=1.0) or 1.0
    left = x + 56
    for row, at, count in cells:
        if count > 0:
            shade = round(235 - 200 * math.sqrt(count / highest))
            across = left + (at - source.start) / (source.end - source.start) * (x + width - left)
            wide = step / (source.end - source.start) * (x + width - left)
            canvas.box(
                across, y + tall - (row + 1) * tall / len(rising) + 1, wide, tall / len(rising) - 2, f"#{shade:02x}{shade:02x}f0"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("address", help="HOST:PORT of Prometheus")
    parser.add_argument("start", type=float)
    parser.add_argument("end", type=float)
    parser.add_argument("--window", default="30s")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    source = Source(options.address, options.start, options.end, options.window)
    for board in sorted(DASHBOARDS.glob("*.json")):
        path = options.out / f"{board.stem}.png"
        draw(json.loads(board.read_text(encoding="utf-8")), source).quantize(64).save(path, optimize=True)
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
