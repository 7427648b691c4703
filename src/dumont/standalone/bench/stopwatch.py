"""A process that starts one command and measures it: `stopwatch.py FD WORDS…`. A small program of its own.

A process inherits its starter's peak memory (Linux keeps it over exec), and starting one takes longer from a large
process. So the bench, which holds data, starts this one, which holds nothing and imports nothing of ours.
"""

import json
import os
import sys
import time

NOT_STARTED = 127


def main(number: int, words: list[str]) -> int:
    """Run `words`; write what they took to the file descriptor `number`, as JSON. Answers their exit status."""
    os.set_inheritable(number, False)
    started_at, began = time.time(), time.perf_counter()
    try:
        pid = os.posix_spawnp(words[0], words, os.environ)
    except OSError as error:
        sys.stderr.write(f"{words[0]} can't be started: {error.strerror}")
        return NOT_STARTED
    _pid, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - began
    found = {
        "seconds": seconds,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "memory_bytes_max": usage.ru_maxrss * 1024,
        "started_at": started_at,
    }
    os.write(number, json.dumps(found).encode())
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
