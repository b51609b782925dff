"""What tests of the program share that are written in Python: asking it, checks, and TAP.  CLI_BIN: another build of the program."""
import os
import subprocess
import tempfile

BIN = os.path.abspath(os.environ.get("CLI_BIN") or "./aha")
TINY = "models/aha-tiny"
TESTS = []


class Skip(Exception):
    """what a test needs is not here"""


def test(f):
    TESTS.append(f)
    return f


def check(ok, *what):
    if not ok:
        raise AssertionError(" ".join(map(str, what)))


def aha(*args, text=""):
    r = subprocess.run([BIN, *args], input=text, capture_output=True, text=True, timeout=120, check=False)
    return r.returncode, r.stdout, r.stderr


def main(folders=True):
    """Each test in turn, with a folder of its own where they want one; the exit status."""
    failed = 0
    print(f"1..{len(TESTS)}")
    for i, t in enumerate(TESTS, 1):
        with tempfile.TemporaryDirectory() as d:
            try:
                t(*[d] * folders)
                print(f"ok {i} - {t.__doc__}", flush=True)
            except Skip as why:
                print(f"ok {i} - {t.__doc__} # skip {why}", flush=True)
            except Exception as e:  # a test that breaks is one that failed  # pylint: disable=broad-except
                failed += 1
                print(f"not ok {i} - {t.__doc__}\n# " + f"{type(e).__name__}: {e}"[:2000].replace("\n", "\n# "), flush=True)
    return 1 if failed else 0
