#!/usr/bin/env python3
"""Completion in real shells (bash, zsh, fish) against a real server, and the manual pages.

What needs a program that is not installed does not run, and says so; the rest does.
"""
import glob
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
import unittest

from normlab_testing import BIN, PATIENCE, ServerTest, main, tiny_spec

FILES = os.environ.get('NORMLAB_SHELL_FILES') or os.path.join(os.path.dirname(BIN), 'shell')
COMMANDS = ('submit', 'validate', 'watch', 'list', 'metrics', 'export', 'top', 'doctor', 'completion', 'study', 'experiment')


def needs(*programs):
    """For tests that use programs which a machine may not have."""
    missing = [program for program in programs if shutil.which(program) is None]
    return unittest.skipIf(missing, f'did not run: {", ".join(missing)} not installed')


def run(command, *arguments, check=True, environment=None):
    done = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=60 * PATIENCE, check=False,
                          env=dict(os.environ, PATH=f'{BIN}:{os.environ["PATH"]}', **(environment or {})))
    if check and done.returncode != 0:
        raise AssertionError(f'{command} {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}')
    return done.stdout


class Shells:
    """Each: the words up to the cursor (the last one incomplete) to what the shell offers."""

    @staticmethod
    def bash(*words):
        script = f'source {FILES}/normlab.bash\n' + r'''
complete -p normlab >/dev/null || exit 3
compopt() { :; }  # only possible while a completion runs
line=("$@")
COMP_WORDS=("${line[@]}"); COMP_CWORD=$((${#line[@]} - 1))
_normlab normlab "${line[-1]}" "${line[-2]}"
[ ${#COMPREPLY[@]} -eq 0 ] || printf '%s\n' "${COMPREPLY[@]}"'''
        return run('bash', '--norc', '-c', script, 'bash', 'normlab', *words).split('\n')[:-1]

    @staticmethod
    def fish(*words):
        line = ' '.join(['normlab', *words])
        script = f"source {FILES}/normlab.fish; complete -C {quote(line)}"
        return [one.split('\t')[0] for one in run('fish', '--no-config', '-c', script).splitlines()]

    @staticmethod
    def zsh(*words):
        script = r'''
compdef() { registered=("$@") }
_describe() { local -a found; found=("${(@P)argv[-1]}"); print -rl -- "${(@)found}" }
_files() { print -r -- FILES }
source ''' + FILES + r'''/_normlab
[[ "${registered[*]}" == "_normlab normlab" ]] || exit 3
words=(normlab "$@"); CURRENT=${#words}
_normlab || true'''
        last = words[-1]
        # What a description follows after ":"; and zsh itself leaves out what does not begin like the word.
        offered = [re.split(r'(?<!\\):', line)[0].replace('\\:', ':')
                   for line in run('zsh', '-f', '-c', script, 'zsh', *words).splitlines()]
        return [word for word in offered if word.startswith(last)]


def type_in_zsh(folder, line):
    """Types `line` and Enter at a real prompt with the real completion system; the arguments that normlab was called with."""
    wrapper = os.path.join(folder, 'path')
    os.makedirs(wrapper, exist_ok=True)
    with open(f'{wrapper}/normlab', 'w', encoding='ascii') as file:
        file.write(f'#!/bin/sh\n[ "$1" = __complete ] && exec {BIN}/normlab "$@"\necho "RAN<$*>"\n')
    os.chmod(f'{wrapper}/normlab', 0o755)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(PATH=f'{wrapper}:{os.environ["PATH"]}', TERM='dumb', PS1='', HOME=folder)
        os.execvp('zsh', ['zsh', '-f', '-i'])
    try:
        seen = ''

        def read_until(pattern):
            nonlocal seen
            deadline = time.monotonic() + 30 * PATIENCE
            while not re.search(pattern, seen):
                ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise AssertionError(f'zsh never printed {pattern}: {seen!r}')
                seen += os.read(terminal, 65536).decode(errors='replace')
            return re.search(pattern, seen).group(1)
        os.write(terminal, f'fpath=({FILES} $fpath); autoload -Uz compinit; compinit -u -D; echo "REA""DY"\n'.encode())
        read_until(r'(READY)')
        os.write(terminal, line.encode() + b'\n')
        return read_until(r'RAN<(.*?)>')
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def quote(text):
    return "'" + text.replace("'", r"\'") + "'"


class CompletionTest(ServerTest):

    def setUp(self):
        super().setUp()
        os.environ['NORMLAB_SERVER'] = self.server.address
        self.job = self.server.submit(tiny_spec(steps=5, display_name='a: b'), '--wait')['name']

    def check(self, complete):
        offered = complete('')
        for command in COMMANDS:
            self.assertIn(command, offered)
        self.assertEqual(complete('wat'), ['watch'])
        self.assertEqual(sorted(complete('metrics', '--fo')), ['--follow', '--format'])
        self.assertEqual(sorted(complete('metrics', '--format', '')), ['csv', 'json', 'jsonl'])
        self.assertEqual(complete('watch', 'jobs/'), [self.job])
        self.assertEqual(sorted(complete('metrics', self.job, '--series', 'test/')), ['test/accuracy', 'test/loss'])
        self.assertIn('landscape', complete('study', 'run', 'l'))
        self.assertNotIn('submit', complete('study', ''))

    @needs('bash')
    def test_bash(self):
        self.check(Shells.bash)
        # bash takes "=" for a word.
        self.assertEqual(Shells.bash('list', '--output', '=', 'js'), ['json'])
        self.assertEqual(Shells.bash('metrics', self.job, '--series', 'train/loss,test/l'), ['train/loss,test/loss'])
        with open(os.path.join(self.folder, 'my spec.yaml'), 'w', encoding='ascii'):
            pass
        self.assertEqual(Shells.bash('submit', self.folder + '/my'), [self.folder + '/my spec.yaml'])

    @needs('fish')
    def test_fish(self):
        self.check(Shells.fish)
        self.assertEqual(Shells.fish('list', '--output=js'), ['--output=json'])

    @needs('zsh')
    def test_zsh(self):
        self.check(Shells.zsh)
        # At a real prompt: what is unique is put there.
        self.assertEqual(type_in_zsh(self.folder, 'normlab wat\tjobs/\t'), f'watch {self.job}')
        self.assertEqual(type_in_zsh(self.folder, f'normlab metrics {self.job} --series test/l\t'),
                         f'metrics {self.job} --series test/loss')

    @needs('bash')
    def test_without_a_server_there_are_commands_and_no_errors(self):
        os.environ['NORMLAB_SERVER'] = '127.0.0.1:1'
        self.assertEqual(Shells.bash('wat'), ['watch'])
        self.assertEqual(Shells.bash('watch', 'jobs/'), [])
        for words in (['watch', ''], ['--server', 'nonsense', 'li'], ['--tls-ca', '/nowhere', 'li'], []):
            done = subprocess.run([f'{BIN}/normlab', '__complete', 'bash', *words], capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ''), words)

    def test_the_scripts_are_what_the_command_prints(self):
        for shell, name in (('bash', 'normlab.bash'), ('zsh', '_normlab'), ('fish', 'normlab.fish')):
            with open(f'{FILES}/{name}', encoding='ascii') as file:
                self.assertEqual(file.read(), run(f'{BIN}/normlab', 'completion', shell))


class ManualTest(unittest.TestCase):

    @needs('mandoc', 'man')
    def test_pages(self):
        pages = sorted(os.path.basename(path) for path in glob.glob(f'{FILES}/man/*'))
        self.assertIn('normlab.1', pages)
        self.assertIn('normlabd.8', pages)
        for command in COMMANDS:
            self.assertIn(f'normlab-{command}.1', pages)
        for page in pages:
            path = f'{FILES}/man/{page}'
            lint = subprocess.run(['mandoc', '-T', 'lint', '-W', 'error', path], capture_output=True, text=True, check=False)
            self.assertEqual((lint.returncode, lint.stdout), (0, ''))
            shown = subprocess.run(['man', '--warnings', '-E', 'UTF-8', '-l', path], capture_output=True, text=True, check=False,
                                   env=dict(os.environ, LC_ALL='C.UTF-8', MANROFFSEQ='', MANWIDTH='100'))
            self.assertEqual((shown.returncode, shown.stderr), (0, ''), page)
        # Every option of the help is in the page, and every flag of the server.
        for command in ('metrics', 'submit', 'export'):
            shown = self.show(f'normlab-{command}.1')
            for option in re.findall(r'^  (?:-\w,)?(--[\w-]+)', run(f'{BIN}/normlab', command, '--help'), re.M):
                self.assertIn(option, shown, command)
        server = self.show('normlabd.8')
        flags = re.findall(r'^  (--\w+)', run(f'{BIN}/normlabd', '--help'), re.M)
        self.assertGreater(len(flags), 20)
        for flag in flags:
            self.assertIn(flag, server)

    def show(self, page):
        shown = subprocess.run(['mandoc', '-T', 'ascii', '-O', 'width=200', f'{FILES}/man/{page}'], capture_output=True,
                               text=True, check=True).stdout
        return re.sub(r'.\x08', '', shown)  # bold is printed twice


if __name__ == '__main__':
    main()
