"""Draws a dashboard as an SVG picture from its JSON and the answers to its queries: for previews, where there is no Grafana."""
import math
import re
from xml.sax.saxutils import escape

COLUMN, ROW, GAP = 66, 34, 8  # pixels
COLORS = ['#73bf69', '#f2cc0c', '#5794f2', '#ff9830', '#b877d9', '#f2495c', '#8ab8ff', '#37872d', '#fade2a', '#c4162a']
BACK, PANEL, LINE, TEXT, FAINT = '#111217', '#181b1f', '#2c3036', '#d8d9da', '#8e8e8e'
SECONDS = [(1, 's', 1), (1e-3, 'ms', 1e3), (1e-6, 'µs', 1e6)]
RATES = {'reqps': 'req/s', 'ops': 'ops/s', 'cps': 'c/s', 'wps': 'wr/s', 'cpm': 'c/m', 'Bps': 'B/s'}


def trim(number):
    return f'{number:.3g}' if abs(number) < 1000 else f'{number:.0f}'


def scaled(value, base, suffixes):
    for suffix in suffixes:
        if abs(value) < base or suffix == suffixes[-1]:
            return f'{trim(value)}{suffix}'
        value /= base
    return ''


def in_unit(value, unit):
    """A number as people read it."""
    if not math.isfinite(value):
        return '-'
    if unit == 's':
        if value >= 120:
            return f'{trim(value / 60)} min'
        for least, name, factor in SECONDS:
            if value >= least or name == 'µs':
                return f'{trim(value * factor)} {name}'
    if unit == 'percentunit':
        return f'{trim(100 * value)}%'
    if unit == 'bytes':
        return scaled(value, 1024, [' B', ' KiB', ' MiB', ' GiB', ' TiB'])
    return scaled(value, 1000, ['', ' k', ' M', ' G']) + (f' {RATES[unit]}' if unit in RATES else '')


def legend_of(target, metric):
    return re.sub(r'\{\{\s*(\w+)\s*\}\}', lambda found: metric.get(found[1], ''), target.get('legendFormat', '')) or '-'


def text(x, y, what, size=11, color=TEXT, anchor='start', weight='normal'):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(what)}</text>')


def finite(points):
    return [(t, v) for t, v in points if math.isfinite(v)]


def draw_stat(panel, lines, x, y, w, h):
    unit = panel['fieldConfig']['defaults'].get('unit', 'short')
    points = finite(lines[0][1]) if lines else []
    value = points[-1][1] if points else math.nan
    color = '#73bf69'
    for step in panel['fieldConfig']['defaults'].get('thresholds', {}).get('steps', []):
        if step['value'] is None or value >= step['value']:
            color = {'green': '#73bf69', 'orange': '#ff9830', 'red': '#f2495c'}.get(step['color'], step['color'])
    return [text(x + w / 2, y + h / 2 + 18, in_unit(value, unit), 30, color, 'middle', 'bold')]


class Axes:
    """The area of a graph, and where its values lie in it."""

    def __init__(self, x, y, w, h, times, low, high, logarithmic):
        self.x, self.y, self.w, self.h, self.times, self.logarithmic = x, y, w, h, times, logarithmic
        self.low, self.high = self.scale(low), self.scale(high)
        if self.high <= self.low:
            self.high = self.low + 1

    def scale(self, value):
        return math.log10(max(value, 1e-9)) if self.logarithmic else value

    def at(self, t, value):
        first, last = self.times
        share = (self.scale(value) - self.low) / (self.high - self.low)
        return (self.x + self.w * (t - first) / max(last - first, 1e-9),
                self.y + self.h * (1 - min(max(share, 0.0), 1.0)))

    def draw(self, unit):
        parts = []
        for i in range(5):
            level = self.low + (self.high - self.low) * i / 4
            y = self.y + self.h * (1 - i / 4)
            parts.append(f'<line x1="{self.x}" y1="{y:.1f}" x2="{self.x + self.w}" y2="{y:.1f}" stroke="{LINE}"/>')
            parts.append(text(self.x - 6, y + 4, in_unit(10 ** level if self.logarithmic else level, unit), 10, FAINT, 'end'))
        seconds = self.times[1] - self.times[0]
        for i in range(1, 4):
            parts.append(text(self.x + self.w * i / 4, self.y + self.h + 14, f'-{seconds * (4 - i) / 4:.0f} s', 10, FAINT, 'middle'))
        return parts


def draw_graph(panel, lines, times, x, y, w, h):
    defaults = panel['fieldConfig']['defaults']
    custom = defaults.get('custom', {})
    unit = defaults.get('unit', 'short')
    logarithmic = custom.get('scaleDistribution', {}).get('type') == 'log'
    lines = [(name, finite(points)) for name, points in lines]
    lines = [line for line in lines if line[1]]
    if custom.get('stacking', {}).get('mode') == 'normal':
        below, stacked = {}, []
        for name, points in lines:
            raised = []
            for t, v in points:
                below[t] = below.get(t, 0.0) + v
                raised.append((t, below[t]))
            stacked.append((name, raised))
        lines = stacked
    values = [v for _, points in lines for _, v in points]
    low = min([v for v in values if v > 0] or [1e-3]) / 2 if logarithmic else min([0.0, *values])
    high = max(values or [1.0]) * (2 if logarithmic else 1.05)
    area = Axes(x + 84, y + 34, w - 98, h - 78, times, low, high if high > low else low + 1, logarithmic)
    parts = area.draw(unit)
    place = x + 14
    for i, (name, points) in enumerate(lines):
        color = COLORS[i % len(COLORS)]
        path = ' '.join(f'{px:.1f},{py:.1f}' for px, py in (area.at(t, v) for t, v in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6"/>')
        width = 22 + 6.2 * len(name)
        if place + width < x + w:
            parts.append(f'<rect x="{place:.1f}" y="{y + h - 19}" width="12" height="4" fill="{color}"/>')
            parts.append(text(place + 16, y + h - 13, name, 10.5, FAINT))
        place += width + 8
    return parts


def draw_heatmap(panel, lines, times, x, y, w, h):
    unit = panel['options']['yAxis'].get('unit', 'short')
    bounds = sorted((math.inf if name == '+Inf' else float(name), dict(finite(points))) for name, points in lines)
    counts = []  # not cumulative any more
    for i, (bound, points) in enumerate(bounds):
        below = bounds[i - 1][1] if i else {}
        counts.append((bound, {t: max(v - below.get(t, 0.0), 0.0) for t, v in points.items()}))
    used = [i for i, (_, points) in enumerate(counts) if any(points.values())]
    if not used:
        return []
    counts = counts[max(used[0] - 1, 0):used[-1] + 2]
    most = max(v for _, points in counts for v in points.values()) or 1.0
    left, top, width, height = x + 84, y + 34, w - 98, h - 60
    each = height / len(counts)
    parts = []
    for i, (bound, points) in enumerate(counts):
        cell_y = top + height - each * (i + 1)
        if i % max(1, len(counts) // 6) == 0:
            parts.append(text(left - 6, cell_y + each / 2 + 4, '∞' if bound == math.inf else in_unit(bound, unit), 10, FAINT, 'end'))
        for t, v in points.items():
            if v > 0:
                at = left + width * (t - times[0]) / max(times[1] - times[0], 1e-9)
                share = math.log1p(v) / math.log1p(most)
                parts.append(f'<rect x="{at:.1f}" y="{cell_y:.1f}" width="{width / 60 + 0.5:.1f}" height="{each:.1f}" '
                             f'fill="#ff9830" opacity="{0.15 + 0.85 * share:.2f}"/>')
    return parts


def draw(dashboard, answers, times):
    """`answers`: {panel id: [(legend, [(time, value), ...]), ...]}; the picture as SVG."""
    height = max(panel['gridPos']['y'] + panel['gridPos']['h'] for panel in dashboard['panels']) * ROW + 60
    width = 24 * COLUMN + 2 * GAP
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="DejaVu Sans, sans-serif">',
             f'<rect width="{width}" height="{height}" fill="{BACK}"/>',
             text(GAP + 6, 32, dashboard['title'], 20, TEXT, 'start', 'bold'),
             text(width - GAP - 6, 32, 'preview: same JSON, same queries, not drawn by Grafana', 12, FAINT, 'end')]
    for panel in dashboard['panels']:
        grid = panel['gridPos']
        x, y = GAP + grid['x'] * COLUMN, 50 + grid['y'] * ROW
        w, h = grid['w'] * COLUMN - GAP, grid['h'] * ROW - GAP
        if panel['type'] == 'row':
            parts.append(text(x + 6, y + 20, '▾ ' + panel['title'], 14, TEXT, 'start', 'bold'))
            continue
        parts.append(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="3" fill="{PANEL}" stroke="{LINE}"/>')
        parts.append(text(x + 10, y + 20, panel['title'], 12.5, TEXT, 'start', 'bold'))
        lines = answers[panel['id']]
        if panel['type'] == 'stat':
            parts += draw_stat(panel, lines, x, y, w, h)
        elif panel['type'] == 'heatmap':
            parts += draw_heatmap(panel, lines, times, x, y, w, h)
        else:
            parts += draw_graph(panel, lines, times, x, y, w, h)
    return '\n'.join([*parts, '</svg>'])
