"""What the tests of aha serve share: a server on a free port, requests, raw sockets, clients in C, TAP."""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

BIN = os.environ.get("CLI_BIN", "./aha")
TMP = tempfile.TemporaryDirectory(prefix="aha-serve-")
os.environ["AHA_DB"] = os.path.join(TMP.name, "aha.db")  # not the user's
LOAD = os.path.join(os.environ.get("BUILD", "build"), "bench", "load_serve")
PUZZLE = [{"role": "user", "content": "Using 8, 13 and 2, make 29."}]
PATIENCE_S = 300  # for what must come, also where the machine does much else; what is missing then will not come
SLOWER = 20 if "TSAN_OPTIONS" in os.environ else 1  # a program that is watched has not its own times


class Skip(Exception):
    pass


def check(ok, *what):
    if not ok:
        raise AssertionError(" ".join(repr(w)[:600] for w in what))


def soon(fn, seconds=PATIENCE_S):
    """waits until fn() is true"""
    end = time.monotonic() + seconds
    while not fn():
        check(time.monotonic() < end, "not within", seconds, "s")
        time.sleep(0.01)


def at_once(fns):
    """what each of them gives, all called at the same time; the first failure is this one's"""
    fns = list(fns)
    with ThreadPoolExecutor(len(fns)) as pool:
        return [f.result() for f in [pool.submit(fn) for fn in fns]]


def once(fn, times=12):
    """fn() is true one time: what others on this machine do now and then spoils some times, what the server always does wrong spoils all"""
    seen = []
    while True:
        good, *what = fn()
        if good:
            return what
        seen.append(what)
        check(len(seen) < times, "never in", times, "times:", seen)


class Server:
    def __init__(self, *args, env=None, files=None):
        limit = ["prlimit", f"--nofile={files}:{files}"] if files else []
        self.p = subprocess.Popen([*limit, BIN, "serve", "--port", "0", *args], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                                  env={**os.environ, **(env or {})}, text=True)
        self.said, self.port = "", None
        for line in self.p.stderr:
            self.said += line
            m = re.search(r"at http://(?:\S+):(\d+)$", line)
            if m:
                self.port = int(m.group(1))
                break
        check(self.port, self.said)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait()
        self.p.stderr.close()

    def stop(self, sig=signal.SIGTERM, timeout=PATIENCE_S):
        """the exit status"""
        self.p.send_signal(sig)
        rc = self.p.wait(timeout)
        self.said += self.p.stderr.read()
        return rc

    def ask(self, method, path, body=None, headers=None, timeout=PATIENCE_S):
        """status, headers, text"""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            h = dict(headers or {})
            if body is not None and "Content-Type" not in h:
                h["Content-Type"] = "application/json"
            c.request(method, path, body if body is None or isinstance(body, (str, bytes)) else json.dumps(body), h)
            r = c.getresponse()
            return r.status, r.headers, r.read().decode()
        finally:
            c.close()

    def get(self, path, **kw):
        return self.ask("GET", path, **kw)

    def json(self, path, body, want=200, **kw):
        status, _, text = self.ask("POST", path, body, **kw)
        check(status == want, status, text)
        return json.loads(text)

    def chat(self, want=200, messages=None, **fields):
        return self.json("/v1/chat/completions", {"model": "aha-tiny", "messages": messages or PUZZLE, **fields}, want)

    def events(self, path, body, timeout=PATIENCE_S):
        """the events of a stream, [DONE] included, comments left out"""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            c.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            r = c.getresponse()
            check(r.status == 200, r.status)
            check(r.headers["Content-Type"].startswith("text/event-stream"), r.headers)
            text = r.read().decode("utf-8")  # strict: it must be whole characters
        finally:
            c.close()
        out = []
        for event in text.split("\n\n"):
            if event and not event.startswith(":"):
                check(event.startswith("data: "), event)
                out.append(event[6:])
        return out

    def stream(self, messages=None, **fields):
        """parsed chunks of a chat"""
        e = self.events("/v1/chat/completions", {"model": "aha-tiny", "messages": messages or PUZZLE, "stream": True, **fields})
        check(e[-1] == "[DONE]", e[-1])
        return [json.loads(x) for x in e[:-1]]

    def raw(self, data, timeout=PATIENCE_S):
        """everything that comes back for these bytes"""
        with self.connect(timeout) as s:
            try:
                s.sendall(data)
            except OSError:
                pass  # refused before the end
            return drain(s)

    def connect(self, timeout=PATIENCE_S):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def health(self):
        status, _, text = self.get("/health")
        return status, json.loads(text)

    def metric(self, name, headers=None):
        status, _, text = self.get("/metrics", headers=headers)
        check(status == 200, text)
        return float(next(line for line in text.splitlines() if line.startswith(name + " ")).split()[1])

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.p.pid}/fd"))

    def threads(self):
        return os.listdir(f"/proc/{self.p.pid}/task")

    def memory(self):
        """KiB of its own, in memory or swapped out"""
        with open(f"/proc/{self.p.pid}/status", encoding="ascii") as f:
            v = dict(line.split(":", 1) for line in f)
        return sum(int(v[k].split()[0]) for k in ("RssAnon", "VmSwap"))

    def steps(self, headers=None):
        """of the engine, from the beginning"""
        return self.metric("aha_steps_total", headers)

    def idle(self, seconds=PATIENCE_S):
        """waits until nothing is under way"""
        soon(lambda: self.health()[1]["requests"] == self.health()[1]["sequences"] == 0, seconds)


class Load:
    """clients in C, which bench/load_serve.c describes: a keyword for each group; a body may be what JSON is made of, where "@@" is a number"""

    def __init__(self, s, *, threads=None, **groups):
        """threads: of the server, whose waiting for a processor is told apart: its I/O thread, or these"""
        words = []
        for name, group in groups.items():
            words.append(name + ":")
            for key, v in group.items():
                v = v if isinstance(v, (str, int, float)) else re.sub(r'"(@[^@"]*@)"(?!:)', r"\1", json.dumps(v))
                words.append(f"{key.replace('_', '-')}={v}")
        words.append("tasks=" + ",".join(f"/proc/{s.p.pid}/task/{t}/schedstat" for t in threads or [s.p.pid]))
        self.p = subprocess.Popen([LOAD, str(s.port), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.kill()
        self.p.wait()
        self.p.stdin.close()
        self.p.stdout.close()

    def results(self):
        """of each group, by its name, when all have come to their end; those that read nothing read now.  unhurried: ms less waited_ms"""
        out = self.p.communicate()[0]
        check(self.p.returncode == 0, self.p.returncode, out)
        got = SimpleNamespace(**{name: SimpleNamespace(**group) for name, group in json.loads(out).items()})
        for g in vars(got).values():
            g.status = {int(k): v for k, v in g.status.items()}
            g.unhurried = [max(0, t - w) for t, w in zip(g.ms, g.waited_ms)]
        return got


def load(s, **how):
    with Load(s, **how) as clients:
        return clients.results()


def quantile(p, values):
    return sorted(values)[int(p * (len(values) - 1))]


def drain(s):
    got = b""
    try:
        while True:
            part = s.recv(65536)
            if not part:
                break
            got += part
    except OSError:
        pass
    return got


def joined(chunks, field, index=0):
    return "".join(c["delta"].get(field) or "" for k in chunks for c in k["choices"] if c["index"] == index)


def post(body, extra="", path="/v1/chat/completions"):
    """a request as bytes"""
    b = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(b)}\r\n{extra}\r\n").encode() + b


TESTS = []


def serve_test(*args, **kw):
    """a test with a server of its own"""
    def wrap(fn):
        def run():
            with Server(*args, **kw) as s:
                fn(s)
        run.__doc__, run.__name__ = fn.__doc__, fn.__name__
        TESTS.append(run)
        return run
    return wrap


def test(fn):
    TESTS.append(fn)
    return fn


def main():
    failed = 0
    only = sys.argv[1:]
    if subprocess.run([BIN, "inspect"], capture_output=True, check=False).returncode:
        print("ok 1 - aha serve # skip no built-in model")
        return 0
    for i, t in enumerate(TESTS, 1):
        if only and t.__name__ not in only:
            continue
        t0 = time.monotonic()
        try:
            t()
            print(f"ok {i} - {t.__name__}: {t.__doc__}", flush=True)
        except Skip as why:
            print(f"ok {i} - {t.__name__} # skip {why}", flush=True)
        except Exception:  # any failure of the test or of the server is the test's failure
            failed += 1
            print(f"not ok {i} - {t.__name__}: {t.__doc__}", flush=True)
            traceback.print_exc(file=sys.stdout)
        print(f"# {time.monotonic() - t0:.1f} s", flush=True)
    return 1 if failed else 0
