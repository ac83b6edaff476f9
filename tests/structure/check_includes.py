#!/usr/bin/env python3
"""Checks who includes whom (docs/architecture.md): the boundaries that keep a crash, a format or a library in its place.

Usage: check_includes.py ROOT | --self-test
"""
import os
import re
import sys
import tempfile

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)

# (folders the rule is about, except these, forbidden includes, why)
RULES = [
    (['server'], [], r'^(oneapi/)?dnnl', 'a crash in a kernel must not take the service down'),
    (['client'], [], r'^(engine|server)/', 'the client is used without the rest'),
    (['common'], [], r'^(engine|server|client)/', 'common depends on nothing of ours'),
    (['engine'], [], r'^(server|client)/', 'the engine does not know who runs it'),
    (['server'], [], r'^client/', 'the server does not know its clients'),
    (['server'], [], r'^engine/(?!spec/|graph/|models/)', 'of the engine the server sees only spec, graph and models'),
    (['engine/spec', 'engine/graph', 'engine/models'], [],
     r'^engine/(?!spec/|graph/|models/)', 'the server links these folders: they stand alone'),
    (['server/domain'], [], r'^(grpc|grpcpp|SQLiteCpp|sqlite3)', 'the domain is pure'),
    (['server/domain'], [], r'^server/(?!domain/)', 'the domain is below everything else'),
    (['common', 'engine', 'server', 'client', 'tests'], ['engine/dnnl'], r'^(oneapi/)?dnnl', 'only engine/dnnl sees oneDNN'),
    (['common', 'engine', 'server', 'client'], ['server/store'], r'^(SQLiteCpp|sqlite3)', 'only server/store sees SQLite'),
    # The tests of the whole server scrape it as any HTTP client would.
    (['common', 'engine', 'server', 'client'], ['server/monitor', 'server/app/testing'], r'^(prometheus/|httplib)',
     'only server/monitor sees prometheus-cpp and the HTTP server'),
    (['common', 'engine'], ['engine/worker'], r'^(grpc/|grpcpp/|.*\.grpc\.pb\.h)', 'of the engine only the worker sees gRPC'),
    (['common', 'engine', 'server', 'client', 'tests'], ['engine/parallel/mpi'], r'^mpi\.h$', 'only engine/parallel/mpi sees MPI'),
    (['common', 'engine', 'server', 'client'], ['engine/parallel/mpi', 'engine/worker/ranks'], r'^engine/parallel/mpi/',
     'normlab-worker must not load MPI'),
    (['engine/layers', 'engine/graph', 'engine/tensor', 'engine/dnnl'], [], r'^normlab/v1/',
     'layers work on plain data, never on a job spec'),
]


def sources(root, folder):
    for path, _, names in os.walk(os.path.join(root, folder)):
        for name in names:
            if name.endswith(('.h', '.cc')):
                yield os.path.relpath(os.path.join(path, name), root)


def below(path, folders):
    return any(path.startswith(folder + '/') for folder in folders)


def violations(root):
    found = []
    for folders, exceptions, forbidden, why in RULES:
        pattern = re.compile(forbidden)
        for folder in folders:
            for path in sources(root, folder):
                if below(path, exceptions):
                    continue
                with open(os.path.join(root, path), encoding='utf-8') as file:
                    for included in INCLUDE.findall(file.read()):
                        if pattern.search(included):
                            found.append(f'{path} includes {included}: {why}')
    return sorted(set(found))


def self_test():
    """Every rule must object to a file made to break it, and to nothing in a clean tree."""
    cases = [
        ('server/api/x.cc', 'oneapi/dnnl/dnnl.hpp'), ('client/lib/x.h', 'server/store/store.h'),
        ('client/cli/x.cc', 'engine/graph/graph.h'), ('common/x.cc', 'engine/graph/graph.h'),
        ('engine/train/x.cc', 'server/store/store.h'), ('server/app/x.cc', 'client/lib/client.h'),
        ('server/api/x.cc', 'engine/train/trainer.h'), ('engine/models/x.cc', 'engine/layers/linear.h'),
        ('server/domain/x.h', 'grpcpp/grpcpp.h'), ('server/domain/x.h', 'SQLiteCpp/Database.h'),
        ('server/domain/x.h', 'server/store/store.h'), ('engine/layers/x.cc', 'dnnl.hpp'),
        ('engine/train/x.cc', 'mpi.h'), ('engine/worker/x.cc', 'engine/parallel/mpi/mpi_ranks.h'),
        ('server/api/x.cc', 'sqlite3.h'), ('server/api/x.cc', 'prometheus/counter.h'),
        ('server/app/x.cc', 'httplib.h'), ('engine/train/x.cc', 'grpcpp/grpcpp.h'),
        ('engine/train/x.cc', 'normlab/v1/worker.grpc.pb.h'), ('engine/layers/x.cc', 'normlab/v1/spec.pb.h'),
    ]
    for path, included in cases:
        with tempfile.TemporaryDirectory() as root:
            full = os.path.join(root, path)
            os.makedirs(os.path.dirname(full))
            with open(full, 'w', encoding='utf-8') as file:
                file.write(f'#include <vector>\n#include "{included}"\n')
            if not any(line.startswith(path) for line in violations(root)):
                sys.exit(f'not caught: {path} including {included}')
    with tempfile.TemporaryDirectory() as root:
        os.makedirs(os.path.join(root, 'engine/dnnl'))
        with open(os.path.join(root, 'engine/dnnl/x.cc'), 'w', encoding='utf-8') as file:
            file.write('#include <oneapi/dnnl/dnnl.hpp>\n')
        if violations(root):
            sys.exit('engine/dnnl may include oneDNN')
    print(f'{len(cases)} made-up violations caught')


def main():
    if sys.argv[1:] == ['--self-test']:
        self_test()
        return
    root = sys.argv[1]
    checked = sum(1 for folder in ('common', 'engine', 'server', 'client', 'tests') for _ in sources(root, folder))
    if checked < 50:
        sys.exit(f'only {checked} source files found below {root}: wrong folder?')
    found = violations(root)
    print('\n'.join(found) or f'{checked} files keep all {len(RULES)} rules')
    sys.exit(1 if found else 0)


if __name__ == '__main__':
    main()
