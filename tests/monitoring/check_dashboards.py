#!/usr/bin/python3
"""Looks over deploy/grafana/dashboards: fixed uids, the data source and the servers by variable, a title, a description, a unit
and a legend everywhere, rates of counters, links between the dashboards, no overlaps, and nothing that is not in the catalogue.
"""
import sys

import monitoring_files as files

UIDS = {'normlab-service', 'normlab-engine', 'normlab-jobs'}
PLAIN_COUNTERS = {'normlab_jobs_recovered_total'}
MIN_DESCRIPTION = 25


def unit_of(panel):
    if panel['type'] == 'heatmap':
        return panel['options']['yAxis'].get('unit')
    return panel['fieldConfig']['defaults'].get('unit')


def overlap(a, b):
    return (a['x'] < b['x'] + b['w'] and b['x'] < a['x'] + a['w'] and
            a['y'] < b['y'] + b['h'] and b['y'] < a['y'] + a['h'])


def check_panel(panel, where, metrics, records):
    problems = []
    if len(panel.get('description', '')) < MIN_DESCRIPTION:
        problems.append(f'{where}: no description that says what to make of it')
    if not unit_of(panel):
        problems.append(f'{where}: no unit')
    if panel.get('datasource', {}).get('uid') != '$datasource':
        problems.append(f'{where}: its data source is not the variable')
    targets = panel.get('targets') or []
    if not targets:
        problems.append(f'{where}: no query')
    if len({target['refId'] for target in targets}) != len(targets):
        problems.append(f'{where}: two queries have one refId')
    for target in targets:
        if target.get('datasource', {}).get('uid') != '$datasource':
            problems.append(f'{where}: the data source of a query is not the variable')
        if not target.get('legendFormat'):
            problems.append(f'{where}: a query without a legend')
        expr = target['expr']
        problems += files.problems_of(expr, where, metrics, records, PLAIN_COUNTERS)
        for selector in files.selectors(expr):
            if not {'job', 'instance'} <= selector.matchers:
                problems.append(f'{where}: {selector.name} of all servers, not of the chosen ones')
            if selector.window and selector.window[1:-1] not in ('$__rate_interval', '1h', '6h', '1d'):
                problems.append(f'{where}: the window {selector.window} does not follow the zoom')
    return problems


def main():
    metrics, records = files.catalogue(), files.recorded()
    dashboards = files.dashboards()
    problems = [] if set(dashboards) == UIDS else [f'uids are {sorted(dashboards)}, not {sorted(UIDS)}']
    count = 0
    for uid, dashboard in dashboards.items():
        variables = {variable['name']: variable for variable in dashboard['templating']['list']}
        if variables.get('datasource', {}).get('type') != 'datasource':
            problems.append(f'{uid}: no variable for the data source')
        if variables.get('instance', {}).get('datasource', {}).get('uid') != '$datasource':
            problems.append(f'{uid}: no variable for the servers')
        for missing in ('title', 'description', 'tags', 'schemaVersion', 'refresh'):
            if not dashboard.get(missing):
                problems.append(f'{uid}: no {missing}')
        linked = {link['url'] for link in dashboard['links'] if link['keepTime'] and link['includeVars']}
        if linked != {f'/d/{other}' for other in UIDS - {uid}}:
            problems.append(f'{uid}: links to {sorted(linked)}; they should lead to the others, with time and variables')
        shown = list(files.panels(dashboard))
        titles = [panel.get('title', '') for panel in shown]
        if len(set(titles)) != len(titles) or '' in titles:
            problems.append(f'{uid}: a title is missing or there twice')
        placed = [panel['gridPos'] for panel in dashboard['panels']]
        if any(overlap(a, b) for i, a in enumerate(placed) for b in placed[:i]) or any(p['x'] + p['w'] > 24 for p in placed):
            problems.append(f'{uid}: panels overlap or stand out')
        for panel in shown:
            count += 1
            problems += check_panel(panel, f'{uid}: "{panel.get("title")}"', metrics, records)
    print('\n'.join(problems) or f'{len(dashboards)} dashboards, {count} panels: nothing to complain of')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
