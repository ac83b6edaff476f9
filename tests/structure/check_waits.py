#!/usr/bin/env python3
"""Checks that nothing waits on the wall clock: a step of an hour must neither stall nor fire a timer.

The timed waits of Abseil and those of the standard library on the system clock end at a time of day; common/steady_wait.h
does not. Tests may use them: nobody sets the clock under a test.

Usage: check_waits.py ROOT | --self-test
"""
import os
import re
import sys
import tempfile

FORBIDDEN = re.compile(r'\b(AwaitWithTimeout|AwaitWithDeadline|LockWhenWithTimeout|LockWhenWithDeadline|WaitWithTimeout|'
                       r'WaitWithDeadline|WaitForNotificationWithTimeout|WaitForNotificationWithDeadline)\b|'
                       r'\bwait_until\s*\([^;]*system_clock|\babsl::Now\(\)\s*[-+<>]')
# Client deadlines and displays are of one call and of somebody who watches.
FOLDERS = ('common', 'engine', 'server')
TEST_CODE = re.compile(r'(_test|_harness|_fixture|_child|_test_support)\.(cc|h)$|/fake_[a-z_]+\.(cc|h)$|/testing/')


def violations(root):
    found = []
    for folder in FOLDERS:
        for path, _, names in os.walk(os.path.join(root, folder)):
            for name in names:
                full = os.path.join(path, name)
                relative = os.path.relpath(full, root)
                if not name.endswith(('.h', '.cc')) or TEST_CODE.search('/' + relative):
                    continue
                with open(full, encoding='utf-8') as file:
                    for number, line in enumerate(file, 1):
                        code = line.split('//')[0]
                        # gRPC turns a deadline into one of the monotonic clock when it is called.
                        if FORBIDDEN.search(code) and 'absl::ToChronoTime(' not in code:
                            found.append(f'{relative}:{number} waits on the wall clock (see common/steady_wait.h): {line.strip()}')
    return sorted(found)


def self_test():
    bad = ('mu_.AwaitWithTimeout(absl::Condition(&x), t);', 'done.WaitForNotificationWithDeadline(d);',
           'cv.WaitWithTimeout(&mu, t);', 'cv.wait_until(lock, std::chrono::system_clock::now() + t);',
           'const auto deadline = absl::Now() + timeout;', 'while (absl::Now() < deadline) {')
    good = ('wait_.WaitFor(mu_, t, ready);', '// mu_.AwaitWithTimeout(...)', 'mu_.Await(absl::Condition(&x));',
            'cv.wait_until(lock, std::chrono::steady_clock::now() + t);', 'record.set_time(absl::Now());')
    for expected, lines in ((1, bad), (0, good)):
        for line in lines:
            with tempfile.TemporaryDirectory() as root:
                os.makedirs(os.path.join(root, 'server/app'))
                for name in ('x.cc', 'x_test.cc'):
                    with open(os.path.join(root, 'server/app', name), 'w', encoding='utf-8') as file:
                        file.write(line + '\n')
                if len(violations(root)) != expected:
                    sys.exit(f'{"not caught" if expected else "wrongly caught"}: {line}')
    print(f'{len(bad)} made-up violations caught')


def main():
    if sys.argv[1:] == ['--self-test']:
        self_test()
        return
    found = violations(sys.argv[1])
    print('\n'.join(found) or 'nothing waits on the wall clock')
    sys.exit(1 if found else 0)


if __name__ == '__main__':
    main()
