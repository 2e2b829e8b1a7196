"""A test suite that a client library drives against a running server.

Prints one line a test, `ok NAME (SECONDS)` or `not ok NAME: REASON`, which `cargo xtask test` counts. Each suite can
be run by hand against any server: `python smbprotocol_suite.py --port 4450 --password ...`.
"""

import argparse
import signal
import sys
import tempfile
import time
import traceback

_tests = []


def test(limit=60, only_full=False):
    """Marks a function as a test that may take `limit` seconds."""

    def mark(function):
        _tests.append((function, limit, only_full))
        return function

    return mark


class Expired(Exception):
    """A test took longer than it may."""


def _expire(_signal, _frame):
    raise Expired()


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4450, help="port 445 by the first Ethernet port")
    parser.add_argument("--port2", type=int, default=None, help="port 445 by the second Ethernet port")
    parser.add_argument("--netbios-port", type=int, default=None, help="port 139")
    parser.add_argument("--user", default="nas")
    parser.add_argument("--password", required=True)
    parser.add_argument("--share", default="data")
    parser.add_argument("--share2", default="data2")
    parser.add_argument("--size", type=int, default=64, help="MiB of the large file")
    parser.add_argument("--files", type=int, default=200, help="files of the tree")
    parser.add_argument("--folders", type=int, default=10, help="folders of the tree")
    parser.add_argument("--clients", type=int, default=8, help="clients in parallel")
    parser.add_argument("--directory", default="target/nas/test", help="where the disks' images are")
    parser.add_argument("--round", type=int, default=0, help="which of a suite's machines")
    parser.add_argument("--image", default="disk0.img", help="the disk with the exFAT volume there")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", default="", help="tests whose names contain this")
    return parser.parse_args()


def main():
    """Runs the marked tests in order; the exit code says whether all passed."""
    options = arguments()
    # A suite that uses another's helpers does not run its tests.
    own = [entry for entry in _tests if entry[0].__module__ == "__main__"]
    signal.signal(signal.SIGALRM, _expire)
    failed = 0
    for function, limit, only_full in own:
        name = function.__name__
        if options.only not in name or (only_full and not options.full):
            continue
        start = time.monotonic()
        signal.alarm(limit)
        try:
            with tempfile.TemporaryDirectory(prefix="nas-test-") as work:
                function(options, work)
        except Expired:
            failed += 1
            print(f"not ok {name}: took longer than {limit} s", flush=True)
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            place = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in place if "/tests/clients/" in frame.filename] or place
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:600]
            print(f"not ok {name}: line {ours[-1].lineno}: {reason}", flush=True)
        else:
            print(f"ok {name} ({time.monotonic() - start:.1f} s)", flush=True)
        finally:
            signal.alarm(0)
    sys.exit(1 if failed else 0)


def expect(condition, message):
    """Fails the test unless `condition` holds."""
    if not condition:
        raise AssertionError(message)


def equal(found, expected, what="value"):
    """Fails the test unless both are equal."""
    if found != expected:
        raise AssertionError(f"{what}: {found!r}, expected {expected!r}")
