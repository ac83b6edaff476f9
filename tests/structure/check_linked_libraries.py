#!/usr/bin/env python3
"""Checks with ldd that no program drags in a library that does not belong to it.

Usage: check_linked_libraries.py FOLDER_WITH_THE_PROGRAMS
"""
import os
import subprocess
import sys

FORBIDDEN = {
    'normlabd': ['libdnnl', 'libgomp'],
    'normlab': ['libdnnl', 'libgomp', 'libsqlite3', 'libSQLiteCpp', 'libprometheus'],
    'normlab-worker': ['libsqlite3', 'libSQLiteCpp', 'libprometheus', 'libmpi', 'libopen-pal'],
    'normlab-worker-mpi': ['libsqlite3', 'libSQLiteCpp', 'libprometheus', 'libmpi_cxx'],
}
# What each must have, so that the check cannot pass on a script or an empty answer of ldd.
REQUIRED = {'normlabd': 'libgrpc++', 'normlab': 'libgrpc++', 'normlab-worker': 'libdnnl', 'normlab-worker-mpi': 'libmpi'}


def main():
    failed = False
    for program, forbidden in FORBIDDEN.items():
        path = os.path.join(sys.argv[1], program)
        linked = subprocess.run(['ldd', path], capture_output=True, text=True, check=True).stdout
        bad = [library for library in forbidden if library + '.so' in linked or library + '-' in linked]
        if bad:
            print(f'{program} links {", ".join(bad)}')
            failed = True
        if REQUIRED[program] not in linked:
            print(f'{program} does not link {REQUIRED[program]}: is {path} the program?')
            failed = True
    if failed:
        sys.exit(1)
    print(', '.join(FORBIDDEN), 'link only what belongs to them')


if __name__ == '__main__':
    main()
