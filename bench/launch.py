"""Runs a command and writes down what it cost: `launch.py FACTS.json COMMAND…`.

A process of its own, and a small one: a child's peak memory begins at that of whoever starts it.
"""

import json
import os
import sys
import time

started = time.perf_counter()
_, status, usage = os.wait4(os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ), 0)
wall_s = time.perf_counter() - started
with open(sys.argv[1], "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib takes long to import
    facts = {"cpu_s": usage.ru_utime + usage.ru_stime, "wall_s": wall_s, "peak_bytes": usage.ru_maxrss * 1024}
    json.dump(facts, file)
sys.exit(os.waitstatus_to_exitcode(status))
