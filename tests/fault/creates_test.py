"""CreateJob calls that are repeated while the server is killed again and again: every request makes exactly one job.

NORMLAB_FAULT_CREATES (default 500) and NORMLAB_FAULT_CREATE_KILLS (default 3) say how many; the promise is 10,000 and 20.
"""
import concurrent.futures
import json
import os
import random
import threading
import time

from normlab_testing import EXIT_OK, EXIT_UNREACHABLE, ServerTest, long_spec, main, tiny_spec, wait_for

CREATES = int(os.environ.get('NORMLAB_FAULT_CREATES', '500'))
KILLS = int(os.environ.get('NORMLAB_FAULT_CREATE_KILLS', '3'))
CALLERS = 4


class CreatesTest(ServerTest):
    FLAGS = ('--cores=1', '--queue_limit=0')

    def test_every_request_makes_exactly_one_job(self):
        # Holds the only core, so that the others wait.
        holder = self.server.submit(long_spec(priority=100))['name']
        port = self.server.address.rsplit(':', 1)[1]
        done = 0
        lock = threading.Lock()

        def create(number):
            """The request, sent until it was answered and then up to two times more."""
            nonlocal done
            spec = json.dumps(tiny_spec(seed=number, priority=-50))
            names = set()
            answers = random.Random(number).randint(1, 3)
            while answers:
                result = self.server.cli('submit', '-', '--request-id', f'request-{number}', '--retry-for', '0s',
                                         '--output', 'json', stdin=spec)
                if result.code == EXIT_OK:
                    names.add(result.json()['name'])
                    answers -= 1
                else:
                    self.assertEqual(result.code, EXIT_UNREACHABLE, result)
                    time.sleep(0.05)  # the server is away; a pause between tries, not a bound
            with lock:
                done += 1
            self.assertEqual(len(names), 1, f'request-{number} made {names}')
            return names.pop()

        with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
            calls = [pool.submit(create, number) for number in range(CREATES)]
            for kill in range(KILLS):
                share = CREATES * (kill + 1) // (KILLS + 1)
                wait_for(lambda share=share: done >= share, f'{share} requests', 600)
                self.server.kill()
                self.server.start(f'--listen=127.0.0.1:{port}')
            names = [call.result() for call in calls]
        self.assertEqual(len(set(names)), CREATES)
        listed = self.server.cli('list', '--all', '--output', 'json', check=EXIT_OK).json()['jobs']
        self.assertEqual(sorted(j['name'] for j in listed), sorted([holder, *names]))
        print(f'{CREATES} requests over {KILLS} kills made {len(listed) - 1} jobs')
        self.server.cli('cancel', holder, check=EXIT_OK)


if __name__ == '__main__':
    main()
