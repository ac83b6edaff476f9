#!/usr/bin/python3
"""Checks deploy/prometheus: promtool on configuration, rules and their cases; every alert has a severity, its texts, a runbook
entry in docs/operations.md, and at least one case in which it fires and one in which it stays quiet; everything that a rule
names exists.
"""
import re
import subprocess
import sys

import yaml

import monitoring_files as files

CASES = sorted(files.glob.glob(files.os.path.join(files.ROOT, 'tests', 'monitoring', '*alerts_test.yml')))
FEWEST_ALERTS = 12
# Counted once, at the server's start: the number itself is what is wanted.
PLAIN_COUNTERS = {'normlab_jobs_recovered_total'}


def run(*command):
    done = subprocess.run(['promtool', *command], capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else [f'promtool {" ".join(command)}:\n{done.stdout}{done.stderr}']


def runbook_entries(text):
    """{anchor: text} of the headings of the third level in the section Alerts."""
    parts = re.split(r'^### (\w+)$', files.section(text, 'Alerts'), flags=re.M)[1:]
    return {name.lower(): body for name, body in zip(parts[::2], parts[1::2])}


def check_alerts(alerts, entries, cases):
    problems = []
    for name, rule in alerts.items():
        if rule.get('labels', {}).get('severity') not in ('critical', 'warning'):
            problems.append(f'{name}: severity must be critical or warning')
        for text in ('summary', 'description'):
            if len(rule['annotations'].get(text, '')) < 10:
                problems.append(f'{name}: no {text}')
        anchor = name.lower()
        if rule['annotations'].get('runbook_url') != f'docs/operations.md#{anchor}':
            problems.append(f'{name}: runbook_url must be docs/operations.md#{anchor}')
        entry = entries.get(anchor, '')
        for part in ('**Means**', '**Look**', '**Do**'):
            if part not in entry:
                problems.append(f'{name}: its entry in docs/operations.md, section Alerts, has no {part}')
        if any(cases.get(name, []).count(fires) < 1 for fires in (True, False)):
            problems.append(f'{name}: tests/monitoring/*alerts_test.yml needs a case that fires and one that stays quiet')
    for stray in sorted(set(entries) - {name.lower() for name in alerts}):
        problems.append(f'docs/operations.md describes {stray}, which is no alert')
    return problems


def main():
    groups = files.rule_groups()
    alerts = {rule['alert']: rule for group in groups for rule in group['rules'] if 'alert' in rule}
    cases = {}
    for test in [test for path in CASES for test in yaml.safe_load(files.read(path))['tests']]:
        for case in test['alert_rule_test']:
            cases.setdefault(case['alertname'], []).append(bool(case['exp_alerts']))
    problems = run('check', 'config', files.os.path.join(files.ROOT, 'deploy', 'prometheus', 'prometheus.yml'))
    problems += run('check', 'rules', *sorted(files.glob.glob(files.os.path.join(files.RULES, '*.yml'))))
    problems += run('test', 'rules', *CASES)
    if len(alerts) < FEWEST_ALERTS:
        problems.append(f'only {len(alerts)} alerts')
    problems += check_alerts(alerts, runbook_entries(files.read(files.OPERATIONS)), cases)
    metrics, records = files.catalogue(), files.recorded()
    for group in groups:
        for rule in group['rules']:
            problems += files.problems_of(rule['expr'], rule.get('alert') or rule['record'], metrics, records, PLAIN_COUNTERS)
    print('\n'.join(problems) or f'{len(alerts)} alerts with {sum(map(len, cases.values()))} cases, {len(records)} recording rules: '
          'they hold, each alert has its runbook')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
