#!/usr/bin/python3
"""A real Slurm of two nodes on this host, in a folder of its own: own munge key and socket, own ports, no accounting.

As a program:  tests/slurm/two_nodes.py FOLDER    starts it, says how to use it, and ends it at SIGINT or SIGTERM.
As a module:   with TwoNodes(folder) as slurm: ...

Needs root (slurmd starts jobs as their users) and the packages of kind `slurm` in deploy/packages.txt. Everything that is
started is ended again by pid, whatever happens.
"""
import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

PROGRAMS = {'munged': '/usr/sbin/munged', 'slurmctld': '/usr/sbin/slurmctld', 'slurmd': '/usr/sbin/slurmd',
            'sbatch': '/usr/bin/sbatch'}
NODES = ('n1', 'n2')

CONFIGURATION = """\
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
# Where PMIx has its sockets: two nodes of one host must not share it.
TmpFS={folder}/tmp.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmctldParameters=enable_configless
SlurmdParameters=config_overrides
ProctrackType=proctrack/{tracking}
TaskPlugin=task/{confinement}
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobcomp.txt
PropagateResourceLimits=NONE
ReturnToService=2
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=2,batch_sched_delay=1{scheduler}
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
SlurmdTimeout={node_timeout}
MinJobAge={min_job_age}
KillWait=5
MaxArraySize={max_array_size}
MaxJobCount=20000
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{node_port}-{last_node_port}] CPUs={cpus} RealMemory={memory}
PartitionName=work Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=1
PartitionName=urgent Nodes=n[1-2] MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=10
PartitionName=spread Nodes=n[1-2] MaxTime=INFINITE State=UP MaxCPUsPerNode=1 PriorityTier=1
PartitionName=short Nodes=n[1-2] MaxTime=00:01:00 DefaultTime=00:01:00 State=UP PriorityTier=1
"""


def why_not():
    """Why it cannot run here; None when it can."""
    if os.geteuid() != 0:
        return 'only root can start a Slurm'
    for name, path in PROGRAMS.items():
        if not os.access(path, os.X_OK):
            return f'{name} is not installed (the packages of kind slurm in deploy/packages.txt)'
    return None


def why_no_cgroups():
    """Why jobs cannot be held to their memory here; None when they can."""
    for controller in ('memory', 'freezer', 'cpuset', 'devices'):
        path = f'/sys/fs/cgroup/{controller}'
        if not os.access(f'{path}/cgroup.procs', os.W_OK) or os.statvfs(path).f_flag & os.ST_RDONLY:
            return f'{path} is not a writable hierarchy of version 1'
    return None


def free_ports(count):
    """`count` free ports in a row."""
    for _ in range(200):
        with contextlib.ExitStack() as held:
            first = held.enter_context(socket.socket())
            first.bind(('127.0.0.1', 0))
            start = first.getsockname()[1]
            try:
                for port in range(start + 1, start + count):
                    other = held.enter_context(socket.socket())
                    other.bind(('127.0.0.1', port))
            except OSError:
                continue
            return start
    raise RuntimeError('no free ports in a row')


class TwoNodes:
    """The cluster. `bin` is for --slurm_bin: the commands, which find this cluster whatever their environment is."""

    def __init__(self, folder, cpus=4, memory=6000, node_timeout=6, min_job_age=300, max_array_size=1001, scheduler='',
                 cgroups=False):
        self.folder = os.path.abspath(folder)
        self.bin = os.path.join(self.folder, 'bin')
        self.conf = os.path.join(self.folder, 'slurm.conf')
        self.processes = {}
        port = free_ports(3)
        self.settings = {
            'cluster': 'normlabtest', 'host': socket.gethostname(), 'folder': self.folder, 'controller_port': port,
            'node_port': port + 1, 'last_node_port': port + 2, 'cpus': cpus, 'memory': memory,
            'tracking': 'cgroup' if cgroups else 'linuxproc', 'confinement': 'cgroup' if cgroups else 'none',
            'node_timeout': node_timeout, 'min_job_age': min_job_age, 'max_array_size': max_array_size,
            'scheduler': f',{scheduler}' if scheduler else ''}

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *unused):
        self.stop()

    def start(self):
        for name in ('munge', 'state', 'bin', *(f'{kind}.{node}' for kind in ('spool', 'tmp') for node in NODES)):
            os.makedirs(os.path.join(self.folder, name), exist_ok=True)
        os.chmod(self.folder, 0o755)
        with open(self.conf, 'w', encoding='ascii') as file:
            file.write(CONFIGURATION.format(**self.settings))
        with open(os.path.join(self.folder, 'cgroup.conf'), 'w', encoding='ascii') as file:
            file.write('CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nConstrainRAMSpace=yes\n')
        for command in ('sbatch', 'squeue', 'scancel', 'scontrol', 'sinfo', 'srun'):
            path = os.path.join(self.bin, command)
            with open(path, 'w', encoding='ascii') as file:
                file.write(f'#!/bin/sh\nSLURM_CONF={self.conf} exec /usr/bin/{command} "$@"\n')
            os.chmod(path, 0o755)
        self._start_munge()
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        self.wait_nodes('IDLE')

    def _start_munge(self):
        folder = os.path.join(self.folder, 'munge')
        key = os.path.join(folder, 'key')
        with open(key, 'wb') as file:
            file.write(os.urandom(1024))
        os.chmod(key, 0o400)
        # munged refuses to work for root as whoever owns less than all of this.
        with contextlib.suppress(KeyError):
            munge = pwd.getpwnam('munge')
            os.chown(folder, munge.pw_uid, munge.pw_gid)
            os.chown(key, munge.pw_uid, munge.pw_gid)
        user = ['/usr/sbin/runuser', '-u', 'munge', '--'] if os.access('/usr/sbin/runuser', os.X_OK) else []
        # The folders above are temporary ones of root's; --force for those that others may write to.
        self._spawn('munged', [*user, PROGRAMS['munged'], '--foreground', '--force', f'--key-file={key}',
                               f'--socket={folder}/socket', f'--pid-file={folder}/pid', f'--log-file={folder}/log',
                               f'--seed-file={folder}/seed', '--num-threads=4'])
        self._wait(lambda: os.path.exists(f'{folder}/socket'), 'munged')

    def start_controller(self):
        self._spawn('slurmctld', [PROGRAMS['slurmctld'], '-D', '-f', self.conf])
        self._wait(lambda: self.run('scontrol', 'ping', check=False).stdout.find(' is UP') > 0, 'slurmctld', 30)

    def save(self, job_id):
        """Has the controller write down what it knows, which it does some seconds after a change."""
        path = os.path.join(self.folder, 'state', 'job_state')
        before = time.time()
        self.run('scontrol', 'update', f'JobId={job_id}', 'Comment=saved')
        self._wait(lambda: os.path.exists(path) and os.path.getmtime(path) > before, 'slurmctld to save its state')

    def start_node(self, node):
        self._spawn(node, [PROGRAMS['slurmd'], '-D', '-N', node, '-f', self.conf])

    def wait_nodes(self, state, nodes=NODES, seconds=60):
        def there():
            out = self.run('sinfo', '-h', '-N', '-o', '%N %T', '-n', ','.join(nodes), check=False).stdout
            states = [line.split()[1].upper() for line in out.splitlines() if line]
            return states and all(one.startswith(state) for one in states)
        self._wait(there, f'nodes {nodes} to be {state}', seconds)

    def kill(self, name, number=signal.SIGKILL):
        """kill -9 of slurmctld, n1 or n2; their jobs' processes go on."""
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait()

    def reconfigure(self, **settings):
        """Other values of settings, at once; returns those that were before."""
        before = {name: self.settings[name] for name in settings}
        self.settings.update(settings)
        with open(self.conf, 'w', encoding='ascii') as file:
            file.write(CONFIGURATION.format(**self.settings))
        self.run('scontrol', 'reconfigure')
        return before

    def run(self, command, *arguments, check=True, **options):
        return subprocess.run([os.path.join(self.bin, command), *arguments], capture_output=True, text=True, timeout=60,
                              check=check, **options)

    def jobs(self):
        """What squeue knows of all jobs, by id."""
        return {job['job_id']: job for job in json.loads(self.run('squeue', '--json').stdout)['jobs']}

    def stop(self):
        with contextlib.suppress(Exception):
            if 'slurmctld' in self.processes:
                self.run('scancel', '--user=root', '--signal=KILL', '--full', check=False)
                self.run('scancel', '--user=root', check=False)
        for name in (*NODES, 'slurmctld', 'munged'):
            process = self.processes.pop(name, None)
            if process is None or process.poll() is not None:
                continue
            process.terminate()
            try:
                process.wait(8)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        # Steps outlive a slurmd; they are known by the folder in their arguments.
        for pid in self._steps():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _steps(self):
        """Processes below this cluster's slurmstepds, and those themselves."""
        parents, steps = {}, set()
        for entry in filter(str.isdigit, os.listdir('/proc')):
            try:
                with open(f'/proc/{entry}/stat', encoding='ascii', errors='replace') as file:
                    parents[int(entry)] = int(file.read().rsplit(')', 1)[1].split()[1])
                with open(f'/proc/{entry}/environ', 'rb') as file:
                    if f'SLURM_CONF={self.conf}'.encode() in file.read().split(b'\0'):
                        steps.add(int(entry))
            except OSError:
                continue
        steps.discard(os.getpid())
        return steps | {pid for pid, parent in parents.items() if parent in steps}

    def _spawn(self, name, arguments):
        with open(os.path.join(self.folder, f'{name}.out'), 'ab') as log:
            # A group of its own: a Ctrl-C at the terminal is ours to handle.
            self.processes[name] = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env={'PATH': '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'LANG': 'C.UTF-8',
                     'SLURM_CONF': self.conf})

    def _wait(self, condition, what, seconds=20):
        deadline = time.monotonic() + seconds
        while not condition():
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f'{name} ended with {process.returncode}:\n{self.log(name)}')
            if time.monotonic() > deadline:
                raise RuntimeError(f'waited in vain for {what}:\n' + '\n'.join(self.log(n) for n in self.processes))
            time.sleep(0.05)

    def log(self, name):
        text = ''
        for path in (f'{name}.out', f'{name}.log', f'slurmd.{name}.log'):
            with contextlib.suppress(OSError), open(os.path.join(self.folder, path), encoding='utf-8',
                                                    errors='replace') as file:
                text += f'--- {path}\n' + file.read()[-2000:]
        return text


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    reason = why_not()
    if reason is not None:
        print(f'did not run: {reason}')
        return 77
    stop = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *unused: stop.append(1))
    with TwoNodes(sys.argv[1]) as slurm:
        print(f'two nodes are up; use the commands in {slurm.bin}, or SLURM_CONF={slurm.conf}; Ctrl-C ends them', flush=True)
        while not stop:
            time.sleep(0.2)
    return 0


if __name__ == '__main__':
    sys.exit(main())
