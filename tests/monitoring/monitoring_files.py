"""What the checks of rules and dashboards share: the catalogue of metrics, the dashboards, and what a query refers to."""
import glob
import json
import os
import re

import yaml

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
RULES = os.path.join(ROOT, 'deploy', 'prometheus', 'rules')
DASHBOARDS = os.path.join(ROOT, 'deploy', 'grafana', 'dashboards')
OPERATIONS = os.path.join(ROOT, 'docs', 'operations.md')

# Of Prometheus itself, about each target.
OF_PROMETHEUS = {'up': ('gauge', set()), 'scrape_duration_seconds': ('gauge', set())}
# Put on everything by Prometheus.
TARGET_LABELS = {'job', 'instance'}
KEYWORDS = {'and', 'or', 'unless', 'by', 'without', 'on', 'ignoring', 'group_left', 'group_right', 'bool', 'offset', 'inf', 'nan'}


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def section(text, title):
    """What stands below a heading of the second level."""
    found = re.search(rf'^## {re.escape(title)}\n(.*?)(?=^## |\Z)', text, re.M | re.S)
    assert found, f'docs/operations.md has no section "{title}"'
    return found[1]


def catalogue():
    """{metric: (type, labels)} of the documented table, which a unit test compares with a scrape."""
    metrics = {}
    for line in section(read(OPERATIONS), 'Metrics').splitlines():
        cells = line.split('|')
        name = re.fullmatch(r' `(\w+)` ', cells[1]) if len(cells) == 6 else None
        if name:
            metrics[name[1]] = (cells[2].strip(), set(re.findall(r'`(\w+)`', cells[3])))
    assert len(metrics) > 40, 'the table of metrics in docs/operations.md cannot be read'
    return metrics


def rule_groups():
    groups = []
    for path in sorted(glob.glob(os.path.join(RULES, '*.yml'))):
        groups += yaml.safe_load(read(path))['groups']
    return groups


def recorded():
    return {rule['record'] for group in rule_groups() for rule in group['rules'] if 'record' in rule}


def dashboards():
    """{uid: dashboard}"""
    found = [json.loads(read(path)) for path in sorted(glob.glob(os.path.join(DASHBOARDS, '*.json')))]
    return {dashboard['uid']: dashboard for dashboard in found}


def panels(dashboard):
    """Panels but for rows, those in collapsed rows too."""
    for panel in dashboard['panels']:
        if panel['type'] == 'row':
            yield from panel.get('panels') or []
        else:
            yield panel


class Selector:
    """One use of a metric in a query."""

    def __init__(self, name, matchers, window, function):
        self.name, self.matchers, self.window, self.function = name, matchers, window, function


def selectors(expr):
    """Every metric that a query names, with the labels it matches, whether a range is taken, and the function around it."""
    # Strings may hold anything; their contents do not matter here.
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expr)
    bare = re.sub(r'\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)', '', bare)
    found = []
    for match in re.finditer(r'([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?\s*(\[[^\]]*\])?(\s*\()?', bare):
        name, matchers, window, call = match.groups()
        inside_window = bare.count('[', 0, match.start()) > bare.count(']', 0, match.start())
        after_number = match.start() > 0 and bare[match.start() - 1].isdigit()
        if call or name in KEYWORDS or inside_window or after_number:
            continue
        function = re.search(r'(\w+)\s*\($', bare[:match.start()])
        found.append(Selector(name, set(re.findall(r'(\w+)\s*(?:=|!=|=~|!~)', matchers or '')), window,
                              function[1] if function else None))
    return found


def grouping_labels(expr):
    """Labels that `by` and `on` name."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expr)
    return {label for labels in re.findall(r'\b(?:by|on)\s*\(([^)]*)\)', bare) for label in re.findall(r'\w+', labels)}


def lookup(name, metrics):
    """(type, labels) of a metric in a query; a histogram's parts are counters. None: there is no such metric."""
    if name in metrics:
        return None if metrics[name][0] == 'histogram' else metrics[name]
    for suffix in ('_bucket', '_sum', '_count'):
        base = name[:-len(suffix)] if name.endswith(suffix) else None
        if base in metrics and metrics[base][0] == 'histogram':
            return 'counter', metrics[base][1] | ({'le'} if suffix == '_bucket' else set())
    return OF_PROMETHEUS.get(name)


def problems_of(expr, where, metrics, known_records, plain_counters=()):
    """What is wrong with a query: metrics and labels that do not exist, counters without rate()."""
    problems = []
    labels = set(TARGET_LABELS)
    named = selectors(expr)
    if not named:
        problems.append(f'{where}: names no metric: {expr}')
    for selector in named:
        if selector.name in known_records:
            labels |= {'grpc_service', 'grpc_method'}
            continue
        known = lookup(selector.name, metrics)
        if known is None:
            problems.append(f'{where}: there is no metric {selector.name}')
            continue
        kind, own = known
        labels |= own
        if unknown := selector.matchers - own - TARGET_LABELS:
            problems.append(f'{where}: {selector.name} has no label {", ".join(sorted(unknown))}')
        if kind == 'counter' and selector.name not in plain_counters and selector.function not in ('rate', 'increase'):
            problems.append(f'{where}: the counter {selector.name} is shown without rate() or increase()')
        if kind == 'gauge' and selector.function in ('rate', 'increase', 'irate'):
            problems.append(f'{where}: {selector.function}() of {selector.name}, which is a gauge')
    if unknown := grouping_labels(expr) - labels:
        problems.append(f'{where}: groups by {", ".join(sorted(unknown))}, which its metrics do not have')
    return problems
