"""Charts as SVG, drawn here so that the page needs nothing that has to be installed. Pure: text in, text out.

A chart has groups of bars, one bar a side, with a line from the least to the greatest value of all rounds. Every side has a
colour of its own on every chart; the colours differ for the colour-blind too (Okabe and Ito).
"""

import math
from html import escape

from stats import digits, spread

COLOURS = {
    "jangbu": "#0072b2", "kafka": "#e69f00", "kafka-fsync": "#d55e00", "nats": "#999999", "nats-always": "#555555",
    "librdkafka": "#e69f00", "jangbu-client": "#0072b2",
}
OTHERS = ("#009e73", "#cc79a7", "#56b4e9", "#f0e442")
WIDTH, PLOT, LEFT, TOP, BOTTOM = 900, 260, 70, 64, 56
FONT = 'font-family="system-ui, sans-serif" font-size'


def colour(side, sides):
    unknown = [name for name in sides if name not in COLOURS]
    return COLOURS.get(side) or OTHERS[unknown.index(side) % len(OTHERS)]


def nice_ticks(top):
    """From 0 to a round number that is `top` or more, in four to ten steps."""
    power = 10 ** math.floor(math.log10(top))
    step = next(power * f / 10 for f in (1, 2, 2.5, 5, 10, 20) if top / (power * f / 10) <= 8)
    return [step * n for n in range(math.ceil(top / step - 1e-9) + 1)]


def log_ticks(least, top):
    """Powers of ten around both."""
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(top))
    return [10.0 ** n for n in range(low, max(high, low + 1) + 1)]


def scale(ticks, logarithmic):
    """A function from a value to how far up it lies, 0 to 1."""
    low, high = ticks[0], ticks[-1]
    if logarithmic:
        return lambda v: (math.log(max(v, low)) - math.log(low)) / (math.log(high) - math.log(low))
    return lambda v: v / high


def text(x, y, said, size=12, anchor="middle", fill="#333", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {FONT}="{size}" fill="{fill}"{more}>{escape(said)}</text>'


def line(x1, y1, x2, y2, stroke, width=1.0):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}" stroke-width="{width}"/>'


def legend(sides):
    parts, x = [], LEFT
    for side in sides:
        parts.append(f'<rect x="{x}" y="36" width="12" height="12" fill="{colour(side, sides)}"/>')
        parts.append(text(x + 17, 46.5, side, anchor="start"))
        x += 34 + 7.5 * len(side)
    return parts


def axis(ticks, height_of, unit):
    parts = [text(WIDTH - 10, 46.5, unit, 11.5, "end", "#666")]
    for tick in ticks:
        y = TOP + PLOT * (1 - height_of(tick))
        parts.append(line(LEFT, y, WIDTH - 10, y, "#e4e4e4" if tick != ticks[0] else "#888"))
        parts.append(text(LEFT - 8, y + 4, digits(tick), 11, "end", "#666"))
    return parts


def bar(x, width, values, height_of, fill):
    median, least, most = spread(values)
    y = TOP + PLOT * (1 - height_of(median))
    middle, up, down = x + width / 2, TOP + PLOT * (1 - height_of(most)), TOP + PLOT * (1 - height_of(least))
    parts = [f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{TOP + PLOT - y:.1f}" fill="{fill}"/>']
    if most > least:
        parts.append(line(middle, up, middle, down, "#222", 1.4))
    parts.append(text(middle, min(y, up) - 4, digits(median), 10.5))
    return parts


def wrapped(label, width):
    """At most two lines of so many letters each, broken between words."""
    words, lines = label.split(" "), [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) >= width and len(lines) < 2:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def bars(title, unit, groups, sides, logarithmic=False):
    """`groups`: [(label, {side: [values]})]. None if there is nothing to show."""
    groups = [(label, {s: v for s, v in by_side.items() if s in sides and v}) for label, by_side in groups]
    groups = [(label, by_side) for label, by_side in groups if by_side]
    every = [value for _, by_side in groups for values in by_side.values() for value in values]
    positive = [value for value in every if value > 0]
    if not positive:
        return None
    ticks = log_ticks(min(positive), max(positive)) if logarithmic else nice_ticks(max(positive))
    height_of, height = scale(ticks, logarithmic), TOP + PLOT + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
        f"<title>{escape(title)}</title>", f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(LEFT, 22, title, 15, "start", "#111", ' font-weight="600"'), *legend(sides), *axis(ticks, height_of, f"{unit}, log" if logarithmic else unit)]
    room = (WIDTH - 10 - LEFT) / len(groups)
    width = min(46.0, room * 0.82 / len(sides))
    for at, (label, by_side) in enumerate(groups):
        here = [side for side in sides if side in by_side]
        middle = LEFT + room * (at + 0.5)
        for n, side in enumerate(here):
            x = middle + width * (n - len(here) / 2)
            parts += bar(x + width * 0.06, width * 0.88, by_side[side], height_of, colour(side, sides))
        for n, said in enumerate(wrapped(label, int(room / 6.6))):
            parts.append(text(middle, TOP + PLOT + 18 + 15 * n, said, 11.5))
    return "\n".join([*parts, "</svg>", ""])
