#!/usr/bin/env python3
"""Checks that the reasons of errors in the code and in docs/errors.md are the same, and that none of them is dead.

Usage: check_errors.py ROOT
"""
import glob
import os
import re
import sys

CONSTANT = re.compile(r'absl::string_view (k\w+) =\s*"([A-Z_]+)";')
FACTORY = re.compile(r'^(?:absl::Status|FieldViolation) (\w+)\(', re.M)
ROW = re.compile(r'^\| `([A-Z_]+)` \| (\w+) \|([^|]*)\|', re.M)
WORKERS_ONLY = re.compile(r'^For workers only: (.*)$', re.M)


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def main():
    root = sys.argv[1]
    problems = []
    # The reasons: constants in the namespace `reason` of the domain's headers.
    reasons = {}
    for path in glob.glob(os.path.join(root, 'server/domain/*.h')):
        for block in re.findall(r'namespace reason \{(.*?)\}  // namespace reason', read(path), re.S):
            for constant, text in CONSTANT.findall(block):
                if text in reasons.values():
                    problems.append(f'{text} stands for two constants')
                reasons[constant] = text
    page = read(os.path.join(root, 'docs/errors.md'))
    rows = {reason: (code, details.strip()) for reason, code, details in ROW.findall(page)}
    documented = set(rows)
    for line in WORKERS_ONLY.findall(page):
        documented |= set(re.findall(r'`([A-Z_]+)`', line))
    for reason in sorted(set(reasons.values()) - documented):
        problems.append(f'{reason} is not in docs/errors.md')
    for reason in sorted(documented - set(reasons.values())):
        problems.append(f'docs/errors.md has {reason}, which the code does not')

    # What makes them, and who calls that.
    sources = {path: read(path) for path in glob.glob(os.path.join(root, 'server/**/*.cc'), recursive=True)
               if not path.endswith('_test.cc') and '/testing/' not in path}
    headers = [read(path) for path in glob.glob(os.path.join(root, 'server/**/*.h'), recursive=True)]
    everything = '\n'.join(list(sources.values()) + headers)
    for constant, text in reasons.items():
        if not re.search(rf'reason::{constant}\b', '\n'.join(sources.values())):
            problems.append(f'{text} is never given to anybody (reason::{constant})')
    for path in glob.glob(os.path.join(root, 'server/domain/*errors.h')):
        for name in FACTORY.findall(read(path)):
            # Declaration and definition, and at least one call.
            if len(re.findall(rf'\b{name}\(', everything)) < 3:
                problems.append(f'{name}() of {os.path.basename(path)} is never called')

    # Codes and details of each factory agree with the page.
    for path, text in sources.items():
        if not path.endswith('errors.cc'):
            continue
        for body in re.split(r'\n}\n', text):
            match = re.search(r'absl::StatusCode::k(\w+),\s*reason::(k\w+)', body)
            if match is None or match.group(2) not in reasons or reasons[match.group(2)] not in rows:
                continue
            code = re.sub(r'(?<!^)(?=[A-Z])', '_', match.group(1)).upper()
            reason = reasons[match.group(2)]
            wanted_code, details = rows[reason]
            if code != wanted_code:
                problems.append(f'{reason} is {code} in the code and {wanted_code} in docs/errors.md')
            if ('AddRetryInfo(' in body) != ('RetryInfo' in details):
                problems.append(f'{reason}: RetryInfo in the code or in docs/errors.md only')
            if ('AddResourceInfo(' in body) != ('ResourceInfo' in details):
                problems.append(f'{reason}: ResourceInfo in the code or in docs/errors.md only')
    if not reasons or not rows:
        problems.append('found no reasons: was something moved?')
    print('\n'.join(problems) or f'{len(reasons)} reasons: code and docs/errors.md agree')
    sys.exit(1 if problems else 0)


if __name__ == '__main__':
    main()
