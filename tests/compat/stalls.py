"""Whether the machine stood still while a test ran: processors that were not given, a disk that did not answer.

Other projects' suites count in whole seconds: a lease of three that is renewed each second ends when a shared machine
takes two away, whoever the server is. What failed in such a time says nothing and is run again, once; what fails on a
machine that ran all the time has failed.
"""

import os
import tempfile
import threading
import time

# Seconds; a machine under load stays below, and no test counts in less.
STALL = 0.5
PAUSE = 0.05


class Stalls:
    """Watches each processor and the disk below the temporary files, from `with` to its end."""

    def __init__(self):
        self.longest = {}
        self._ends = threading.Event()
        watches = [(f"processor {cpu}", self._watch_processor, (cpu,)) for cpu in sorted(os.sched_getaffinity(0))]
        watches.append(("disk", self._watch_disk, ()))
        self._threads = [threading.Thread(target=watch, args=(name, *more)) for name, watch, more in watches]

    def _watch(self, name, step):
        """Makes steps that take a pause each, and notes what they take beyond."""
        while not self._ends.is_set():
            began = time.monotonic()
            step()
            self.longest[name] = max(self.longest.get(name, 0), time.monotonic() - began - PAUSE)

    def _watch_processor(self, name, cpu):
        os.sched_setaffinity(0, {cpu})  # of this thread alone
        self._watch(name, lambda: time.sleep(PAUSE))

    def _watch_disk(self, name):
        with tempfile.TemporaryFile(buffering=0) as file:

            def write():
                time.sleep(PAUSE)
                os.pwrite(file.fileno(), bytes(4096), 0)
                os.fdatasync(file.fileno())

            self._watch(name, write)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def found(self):
        """What stood still for too long, in words; empty if nothing did."""
        long = [f"{name} for {time:.1f} s" for name, time in sorted(self.longest.items()) if time >= STALL]
        return ", ".join(long)
