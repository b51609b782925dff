#!/usr/bin/env python3
"""aha pull against a hub on this machine that misbehaves in every way that a network, a mirror or an enemy may.
Prints TAP.  CLI_BIN: another build of the program."""
import hashlib
import http.server
import json
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

BIN = os.path.abspath(os.environ.get("CLI_BIN") or "./aha")
COMMIT = "c0ffee" + "0" * 34
TOKEN = "hf_secretsecret"
MIB = 1 << 20
# in memory where that is possible: a busy disk takes seconds for an fsync, of which there are hundreds here
TMP = tempfile.mkdtemp(prefix="aha-pull-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 256 << 20 else None)
failures = 0
count = 0


def git_oid(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub:
    """A hub and, at another address, the store that it redirects to."""

    def __init__(self, files, repo="org/model"):
        self.repo, self.files, self.commit = repo, files, COMMIT
        self.oid = {p: hashlib.sha256(d).hexdigest() if self.is_lfs(p) else git_oid(d) for p, d in files.items()}
        self.seen = []            # (server, path, headers)
        self.sent = 0             # bytes of contents that left the store
        self.twist = None         # twist(handler, kind, name) -> True: answered
        self.entries = None       # another list of files
        self.page = 1000
        self.lock = threading.Lock()
        self.servers = [self.serve("hub"), self.serve("store")]
        self.endpoint = "http://127.0.0.1:%d" % self.servers[0].server_port
        self.store = "http://localhost:%d" % self.servers[1].server_port

    @staticmethod
    def is_lfs(path):
        return path.endswith((".safetensors", ".gguf"))

    def serve(self, name):
        hub = self

        class Handler(Answer):
            server_name, state = name, hub
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.handle_error = lambda *a: None
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    def tree(self):
        if self.entries is not None:
            return self.entries
        rows = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": d} for d in sorted({os.path.dirname(p) for p in self.files} - {""})]
        for p, d in sorted(self.files.items()):
            row = {"type": "file", "oid": git_oid(d), "size": len(d), "path": p}
            if self.is_lfs(p):
                row["lfs"] = {"oid": self.oid[p], "size": len(d), "pointerSize": 134}
            rows.append(row)
        return rows

    def requests(self, server, part=""):
        return [h for s, p, h in self.seen if s == server and part in p]

    def close(self):
        for s in self.servers:
            s.shutdown()
            s.server_close()


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_name, state = "", None

    def log_message(self, *args):
        pass

    def send(self, status, body=b"", **headers):
        self.send_response(status)
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), v)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_json(self, value, **headers):
        self.send(200, json.dumps(value).encode(), Content_Type="application/json", **headers)

    def do_GET(self):
        hub, url = self.state, urllib.parse.urlsplit(self.path)  # a proxy gets whole addresses
        path, query = urllib.parse.unquote(url.path), urllib.parse.parse_qs(url.query)
        with hub.lock:
            hub.seen.append((self.server_name, self.path, dict(self.headers)))
        if self.server_name == "store":
            return self.content(path[len("/blob/"):])
        api = "/api/models/" + hub.repo
        if path.startswith(f"/{hub.repo}/resolve/"):
            return self.resolve(path.split("/", 5)[5])
        kind = "revision" if path.startswith(api + "/revision/") else "tree" if path.startswith(api + "/tree/") else "other"
        if hub.twist and hub.twist(self, kind, path):
            return None
        if kind == "revision":
            rev = path[len(api + "/revision/"):]
            if rev not in ("main", "v1.0", hub.commit, "refs/pr/1"):
                return self.send(404, b"{}", X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
            return self.send_json({"id": hub.repo, "sha": hub.commit, "siblings": [{"rfilename": p} for p in hub.files]})
        if kind == "tree":
            at = int(query.get("cursor", ["0"])[0])
            rows, more = hub.tree(), {}
            if at + hub.page < len(rows):
                more["Link"] = f'<https://huggingface.co{path}?recursive=1&cursor={at + hub.page}>; rel="next"'  # a mirror's slip
            return self.send_json(rows[at:at + hub.page], **more)
        if path == api + "/refs":
            return self.send_json({"branches": [{"name": "main"}], "tags": [{"name": "v1.0"}]})
        if path == "/api/models":
            found = query["search"][0] in hub.repo if "search" in query else query["author"][0] == hub.repo.split("/")[0]
            return self.send_json([{"id": hub.repo}] if found else [])
        return self.send(401, b"{}", X_Error_Code="RepoNotFound", X_Error_Message="Invalid username or password.")

    def resolve(self, path):
        hub = self.state
        if hub.twist and hub.twist(self, "resolve", path):
            return None
        if path not in hub.files:
            return self.send(404, b"", X_Error_Code="EntryNotFound")
        if not hub.is_lfs(path):
            return self.send(200, hub.files[path], ETag=f'"{hub.oid[path]}"', X_Repo_Commit=hub.commit)
        return self.send(302, b"Found. Redirecting", Location=f"{hub.store}/blob/{path}?sig=x", X_Repo_Commit=hub.commit,
                         X_Linked_Etag=f'"{hub.oid[path]}"', X_Linked_Size=str(len(hub.files[path])))

    def content(self, path):
        hub = self.state
        if hub.twist and hub.twist(self, "store", path):
            return
        data = hub.files[path]
        m = re.match(r"bytes=(\d+)-(\d+)$", self.headers.get("Range", ""))
        if m:
            a, b = int(m.group(1)), int(m.group(2))
            self.body(data[a:b + 1], 206, Content_Range=f"bytes {a}-{b}/{len(data)}")
        else:
            self.body(data, 200)

    def body(self, data, status, stop=None, slow=0.0, **headers):
        """stop: the connection ends after so many bytes; slow: seconds between pieces of 64 KiB"""
        self.send_response(status)
        for k, v in {"Content_Length": str(len(data)), "Accept_Ranges": "bytes", **headers}.items():
            self.send_header(k.replace("_", "-"), v)
        self.end_headers()
        if stop is not None:
            data = data[:stop]
        step = 65536 if slow else MIB
        for i in range(0, len(data), step):
            self.wfile.write(data[i:i + step])
            with self.state.lock:
                self.state.sent += len(data[i:i + step])
            if slow:
                time.sleep(slow)
        if stop is not None:
            self.close_connection = True


# ---- running the program ----
def environment(home, hub=None, **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "AHA_")) and not k.lower().endswith("_proxy")}
    env.update(HF_HOME=home, HF_TOKEN=TOKEN)
    if hub:
        env["HF_ENDPOINT"] = hub.endpoint
    env.update(more)
    return env


def pull(home, hub, *args, timeout=30, **env):
    r = subprocess.run([BIN, "pull", *args], env=environment(home, hub, **env), stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout)
    return r.returncode, r.stdout.decode(), r.stderr.decode()


def start(home, hub, *args, **env):
    return subprocess.Popen([BIN, "pull", *args], env=environment(home, hub, **env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def wait_for(what, seconds=10):
    end = time.time() + seconds
    while not what():
        if time.time() > end:
            raise AssertionError("waited in vain")
        time.sleep(0.01)


def cache_of(home, repo="org/model"):
    return os.path.join(home, "hub", "models--" + repo.replace("/", "--"))


def everything(folder):
    return sorted(os.path.relpath(os.path.join(d, f), folder) for d, _, fs in os.walk(folder) for f in fs)


def same(path, data):
    with open(path, "rb") as f:
        return f.read() == data


def check(ok, *said):
    if not ok:
        raise AssertionError(" ".join(str(s) for s in said))


TESTS = []


def test(f):
    TESTS.append(f)
    return f


class Skip(Exception):
    pass


def noise(n, seed=1):
    return random.Random(seed).randbytes(n)


SMALL = {"config.json": b'{"a": 1}', "tokenizer.json": b"{}", "tokenizer_config.json": b"[]", "README.md": b"# read", "model.safetensors": noise(300000),
         "original/consolidated.safetensors": noise(1000), "pytorch_model.bin": b"no"}
BIG = {"config.json": b"{}", "model.safetensors": noise(24 * MIB, 2)}
WANTED = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


def hub_test(files):
    """A test with a hub and an empty home of its own."""
    def wrap(f):
        def run():
            hub, home = Hub(files), tempfile.mkdtemp(dir=TMP)
            try:
                f(hub, home)
            finally:
                hub.close()
                shutil.rmtree(home, ignore_errors=True)
        run.__doc__ = f.__doc__
        TESTS.append(run)
        return run
    return wrap


# ---- the ordinary case ----
@hub_test(SMALL)
def plain(hub, home):
    """safetensors and what belongs to them, in the cache's layout; the token goes to the hub and to nobody else"""
    rc, out, err = pull(home, hub, "org/model")
    root = cache_of(home)
    check(rc == 0 and err == "", rc, err)
    snap = os.path.join(root, "snapshots", COMMIT)
    check(out == snap + "\n", out)
    check(sorted(os.listdir(snap)) == WANTED, os.listdir(snap))
    for name in WANTED:
        check(os.readlink(os.path.join(snap, name)) == "../../blobs/" + hub.oid[name])
        check(same(os.path.join(snap, name), SMALL[name]), name)
    check(sorted(os.listdir(os.path.join(root, "blobs"))) == sorted(hub.oid[n] for n in WANTED))
    check(same(os.path.join(root, "refs", "main"), COMMIT.encode()))
    check(all(h.get("Authorization") == "Bearer " + TOKEN for h in hub.requests("hub")))
    check(hub.requests("store") and not any("Authorization" in h for h in hub.requests("store")), "the token left the hub")
    check(TOKEN not in out + err)


@hub_test(SMALL)
def complete(hub, home):
    """what is there is not fetched again; a revision with a slash; --json"""
    check(pull(home, hub, "org/model")[0] == 0)
    before = len(hub.requests("store")) + len(hub.requests("hub", "/resolve/"))
    rc, out, err = pull(home, hub, "org/model", "--json", "--revision", "refs/pr/1")
    check(rc == 0, err)
    check(len(hub.requests("store")) + len(hub.requests("hub", "/resolve/")) == before, "fetched again")
    r = json.loads(out)
    check(r["commit"] == COMMIT and r["bytes"] == sum(len(SMALL[n]) for n in WANTED) and len(r["files"]) == 4 and r["path"] == r["folder"], r)
    check(all(os.path.exists(f) for f in r["files"]))
    check(same(os.path.join(cache_of(home), "refs", "refs", "pr", "1"), COMMIT.encode()))
    os.truncate(os.path.join(cache_of(home), "blobs", hub.oid["config.json"]), 3)  # damaged by others: the size tells
    check(pull(home, hub, "org/model")[0] == 0 and same(os.path.join(out and r["path"], "config.json"), SMALL["config.json"]))


@hub_test(SMALL)
def folder(hub, home):
    """--to: a plain folder, checked when it is there already; what is somebody else's is left alone"""
    to = os.path.join(home, "a", "b")
    rc, out, err = pull(home, hub, "org/model", "--to", to)
    check(rc == 0 and out == to + "\n" and everything(to) == WANTED, out, err, everything(to))
    hub.seen.clear()
    check(pull(home, hub, "org/model", "--to", to)[0] == 0 and not hub.requests("store"), "fetched again")
    with open(os.path.join(to, "config.json"), "w", encoding="ascii") as f:
        f.write("my own!!")  # as long as the hub's
    rc, out, err = pull(home, hub, "org/model", "--to", to)
    check(rc == 1 and out == "" and "config.json" in err and "not the hub's" in err, rc, err)
    check(same(os.path.join(to, "config.json"), b"my own!!"))
    check(not os.path.exists(os.path.join(home, "hub")))


@hub_test(SMALL)
def patterns(hub, home):
    """--file: by pattern, folders too; nothing fits: the nearest"""
    rc, out, err = pull(home, hub, "org/model", "--file", "*.md,original/*", "--json")
    check(rc == 0 and [f.split(COMMIT + "/")[1] for f in json.loads(out)["files"]] == ["README.md", "original/consolidated.safetensors"], out, err)
    check(os.readlink(json.loads(out)["files"][1]).startswith("../../../blobs/"))
    rc, out, err = pull(home, hub, "org/model", "--file", "REDME.md")
    check(rc == 2 and "did you mean README.md?" in err, rc, err)


GGUF = {"config.json": b"{}", "README.md": b"#", "m-Q8_0.gguf": noise(5000, 3), "m-UD-Q2_K_XL.gguf": noise(4000, 4), "mmproj-F16.gguf": noise(10),
        **{f"Q4_K_M/m-Q4_K_M-0000{i}-of-00003.gguf": noise(1000 + i, 5 + i) for i in (1, 2, 3)}, "BF16/m-00001-of-00002.gguf": noise(77, 9)}


@hub_test(GGUF)
def gguf(hub, home):
    """GGUF: the types are shown with their sizes; a type takes all its parts; a mistyped one, a missing part"""
    rc, out, err = pull(home, hub, "org/model")
    check(rc == 2 and out == "" and "Q8_0" in err and "5.00 kB" in err and "UD-Q2_K_XL" in err and "3 files" in err and "aha pull org/model:" in err, rc, err)
    check("mmproj" not in err and "F16" not in err.replace("BF16", ""), err)
    rc, out, err = pull(home, hub, "org/model", "--json")
    check(rc == 2 and {"type": "Q4_K_M", "bytes": 3006, "files": 3} in json.loads(out)["types"], out)
    rc, out, err = pull(home, hub, "org/model:q4_k_m")
    check(rc == 0 and out == os.path.join(cache_of(home), "snapshots", COMMIT, "Q4_K_M/m-Q4_K_M-00001-of-00003.gguf") + "\n", out, err)
    snap = os.path.join(cache_of(home), "snapshots", COMMIT)
    check(len(os.listdir(os.path.join(snap, "Q4_K_M"))) == 3 and os.path.exists(os.path.join(snap, "config.json")))
    check(same(out.strip(), GGUF["Q4_K_M/m-Q4_K_M-00001-of-00003.gguf"]))
    rc, out, err = pull(home, hub, "org/model:Q2_K_XL")
    check(rc == 2 and "did you mean UD-Q2_K_XL?" in err, rc, err)
    check(pull(home, hub, "org/model:UD-Q2_K_XL")[0] == 0)
    rc, out, err = pull(home, hub, "org/model:BF16")
    check(rc == 1 and "number 2 is not there" in err, rc, err)


@test
def runs():
    """aha run -m $(aha pull REPO)"""
    folder_ = "models/aha-tiny"
    names = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    if not os.path.exists(os.path.join(folder_, "model.safetensors")):
        raise Skip("no built-in model here")
    files = {}
    for n in names:
        if os.path.exists(os.path.join(folder_, n)):
            with open(os.path.join(folder_, n), "rb") as f:
                files[n] = f.read()
    hub, home = Hub(files), tempfile.mkdtemp(dir=TMP)
    r = subprocess.run(f'"{BIN}" inspect -m "$("{BIN}" pull org/model)"', shell=True, env=environment(home, hub), capture_output=True, timeout=30, check=False)
    hub.close()
    check(r.returncode == 0 and b"deepseek" in r.stdout.lower(), r)


# ---- pieces ----
@hub_test(BIG)
def parallel(hub, home):
    """a large file comes in pieces over several connections, the hub being asked for it once or a few times"""
    rc, out, err = pull(home, hub, "org/model", "--connections", "3")
    check(rc == 0 and same(os.path.join(out.strip(), "model.safetensors"), BIG["model.safetensors"]), err)
    ranges = [h["Range"] for h in hub.requests("store")]
    check(len(ranges) == 6 and len(set(ranges)) == 6, ranges)
    check(len(hub.requests("hub", "/resolve/")) <= 4, "asked anew for each piece")
    check(hub.sent == 24 * MIB, hub.sent)


@hub_test(BIG)
def cuts(hub, home):
    """connections that end in mid-file: each goes on where it ended"""
    left = [9]

    def twist(h, kind, name):
        if kind != "store" or left[0] <= 0:
            return False
        left[0] -= 1
        m = re.match(r"bytes=(\d+)-(\d+)", h.headers["Range"])
        a, b = int(m.group(1)), int(m.group(2))
        h.body(hub.files[name][a:b + 1], 206, stop=700000, Content_Range=f"bytes {a}-{b}/{len(hub.files[name])}")
        return True
    hub.twist = twist
    rc, out, err = pull(home, hub, "org/model")
    check(rc == 0 and same(os.path.join(out.strip(), "model.safetensors"), BIG["model.safetensors"]), err)
    check(hub.sent < 24 * MIB + 9 * 100000, hub.sent, "of", 24 * MIB)


@hub_test(BIG)
def no_ranges(hub, home):
    """a server that knows no ranges (200 for 206), cut once: one connection, from the start"""
    left = [1]

    def twist(h, kind, name):
        if kind == "store":
            stop = None
            if left[0] and "Range" not in h.headers:
                left[0], stop = 0, 5 * MIB
            h.body(hub.files[name], 200, stop=stop)
        return kind == "store"
    hub.twist = twist
    rc, out, err = pull(home, hub, "org/model")
    check(rc == 0 and same(os.path.join(out.strip(), "model.safetensors"), BIG["model.safetensors"]), err)


@hub_test(BIG)
def killed(hub, home):
    """killed three times (SIGKILL), a bit of what is there turned once: it goes on, and the end is right"""
    def slow(h, kind, name):
        if kind != "store":
            return False
        m = re.match(r"bytes=(\d+)-(\d+)", h.headers["Range"])
        a, b = int(m.group(1)), int(m.group(2))
        h.body(hub.files[name][a:b + 1], 206, slow=0.01, Content_Range=f"bytes {a}-{b}/{len(hub.files[name])}")
        return True
    hub.twist = slow
    part = os.path.join(cache_of(home), "blobs", hub.oid["model.safetensors"] + ".aha.incomplete")
    for _ in range(3):
        goal = hub.sent + 7 * MIB
        p = start(home, hub, "org/model", "--connections", "4")
        wait_for(lambda g=goal: hub.sent > g)
        p.kill()
        p.communicate()
    check(os.path.exists(part) and not os.path.exists(os.path.join(cache_of(home), "snapshots")), "seen before it is whole")
    hub.twist = None
    time.sleep(0.3)  # what the dead still had open
    hub.sent = 0
    rc, out, err = pull(home, hub, "org/model")
    check(rc == 0 and same(os.path.join(out.strip(), "model.safetensors"), BIG["model.safetensors"]), err)
    check(hub.sent < 16 * MIB, "it did not go on:", hub.sent)
    check(not os.path.exists(part))
    shutil.rmtree(cache_of(home))
    hub.twist = slow
    goal = hub.sent + 8 * MIB
    p = start(home, hub, "org/model", "--connections", "2")
    wait_for(lambda: hub.sent > goal)
    p.kill()
    p.communicate()
    hub.twist = None
    with open(part, "r+b") as f:
        f.seek(1000)
        byte = f.read(1)
        f.seek(1000)
        f.write(bytes([byte[0] ^ 1]))
    rc, out, err = pull(home, hub, "org/model")
    check(rc == 0 and same(os.path.join(out.strip(), "model.safetensors"), BIG["model.safetensors"]), rc, err)


@hub_test(BIG)
def interrupted(hub, home):
    """Ctrl-C: dies by the signal, keeps what came; on a terminal there is a bar with the time that is left"""
    def slow(h, kind, name):
        if kind == "store":
            m = re.match(r"bytes=(\d+)-(\d+)", h.headers["Range"])
            a, b = int(m.group(1)), int(m.group(2))
            h.body(hub.files[name][a:b + 1], 206, slow=0.02, Content_Range=f"bytes {a}-{b}/{len(hub.files[name])}")
        return kind == "store"
    hub.twist = slow
    master, slave = pty.openpty()
    p = subprocess.Popen([BIN, "pull", "org/model", "--connections", "2"], env=environment(home, hub, TERM="dumb"), stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    time.sleep(2.0)
    p.send_signal(signal.SIGINT)
    out = p.communicate(timeout=5)[0]
    said = b""
    try:
        while True:
            more = os.read(master, 65536)
            if not more:
                break
            said += more
    except OSError:
        pass
    os.close(master)
    check(p.returncode == -signal.SIGINT and out == b"", p.returncode)
    check(b" left" in said and b"of 25.2 MB" in said and b"the same command goes on" in said, said[-500:])


@hub_test(BIG)
def two(hub, home):
    """two pulls at once: one fetches, the other waits, both are right"""
    def slow(h, kind, name):
        if kind == "store":
            m = re.match(r"bytes=(\d+)-(\d+)", h.headers["Range"])
            a, b = int(m.group(1)), int(m.group(2))
            h.body(hub.files[name][a:b + 1], 206, slow=0.002, Content_Range=f"bytes {a}-{b}/{len(hub.files[name])}")
        return kind == "store"
    hub.twist = slow
    ps = [start(home, hub, "org/model") for _ in range(3)]
    for p in ps:
        out, err = p.communicate(timeout=30)
        check(p.returncode == 0 and same(os.path.join(out.decode().strip(), "model.safetensors"), BIG["model.safetensors"]), err)
    check(hub.sent == 24 * MIB, "fetched twice:", hub.sent)
    check(not [f for f in everything(home) if "incomplete" in f or "tmp" in f], everything(home))


# ---- servers that fail ----
@hub_test(SMALL)
def busy(hub, home):
    """429 with Retry-After is waited for; 500, 503 and refused connections are tried again; for ever is too long"""
    state = {"429": 1, "500": 2, "revision": 1, "tree": 1}

    def twist(h, kind, name):
        if kind in ("revision", "tree") and state[kind]:
            state[kind] -= 1
            h.send(503 if kind == "tree" else 500)
            return True
        if kind == "store" and state["429"]:
            state["429"] -= 1
            state["t"] = time.time()
            h.send(429, b"slow down", Retry_After="1")
            return True
        if kind == "store" and state["500"]:
            state["500"] -= 1
            state["waited"] = state.get("waited", time.time() - state["t"])
            h.send(500)
            return True
        return False
    hub.twist = twist
    rc, out, err = pull(home, hub, "org/model")
    check(rc == 0 and state["waited"] >= 0.9, rc, err, state)
    hub.twist = lambda h, kind, name: kind == "store" and (h.send(429, b"", Retry_After="100000") or True)
    rc, out, err = pull(home, hub, "org/model", "--to", os.path.join(home, "x"))
    check(rc == 1 and "86400" in err, rc, err)
    hub.twist = lambda h, kind, name: kind == "store" and (h.send(502) or True)
    rc, out, err = pull(home, hub, "org/model", "--to", os.path.join(home, "x"), "--tries", "3")
    check(rc == 1 and "502" in err and "tried 3 times" in err, rc, err)


@hub_test(SMALL)
def refusals(hub, home):
    """401, 403 and 404 are explained with what to do or the nearest name"""
    def gated(h, kind, name):
        if kind == "resolve":
            h.send(403, b"", X_Error_Code="GatedRepo", X_Error_Message="Access to model is restricted")
        return kind == "resolve"
    hub.twist = gated
    rc, out, err = pull(home, hub, "org/model")
    check(rc == 1 and "gated" in err and "accept its terms" in err and "HF_TOKEN" in err, rc, err)
    hub.twist = None
    for near in ("org/modle", "orgg/model"):
        rc, out, err = pull(home, hub, near, HF_TOKEN="")
        check(rc == 1 and "did you mean org/model?" in err, rc, err)
    rc, out, err = pull(home, hub, "org/modle")
    check(rc == 1 and "does not take the token" in err, rc, err)
    rc, out, err = pull(home, hub, "org/model", "--revision", "v1.1")
    check(rc == 1 and "did you mean v1.0?" in err, rc, err)
    hub.twist = lambda h, kind, name: kind == "resolve" and (h.send(404) or True)
    rc, out, err = pull(home, hub, "org/model")
    check(rc == 1 and "404" in err, rc, err)
    hub.twist = None
    with open(os.path.join(home, "token"), "w", encoding="ascii") as f:
        f.write("hf_file\n")
    hub.seen.clear()
    check(pull(home, hub, "org/model", HF_TOKEN="")[0] == 0 and hub.requests("hub")[0]["Authorization"] == "Bearer hf_file")
    for bad in ("a\r\nX: y", "hf_ä"):
        rc, out, err = pull(home, hub, "org/model", HF_TOKEN=bad)
        check(rc == 2 and "HF_TOKEN" in err and "hf_ä" not in err, rc, err)
    for bad in ("ftp://x", "file:///etc", "nonsense\nx", "http://u:p@x", "https://x/?q=1"):
        rc, out, err = pull(home, None, "org/model", HF_ENDPOINT=bad)
        check(rc == 2 and "HF_ENDPOINT" in err, bad, rc, err)
    for bad in ("../x", "a/b/c", "a/..", "/etc", "a--b/c", "", "a/b:", "a/b:x/y", "https://huggingface.co/a/b"):
        check(pull(home, hub, bad)[0] == 2, bad)
    for bad in ("..", "a/../b", "/x", "a\\b", "a b"):
        check(pull(home, hub, "org/model", "--revision", bad)[0] == 2, bad)


# ---- servers that lie ----
def rejected(hub, home, *words, bad="model.safetensors"):
    rc, out, err = pull(home, hub, "org/model", "--tries", "2")
    check(rc == 1 and out == "", rc, out, err)
    for w in words:
        check(w in err, w, "is not in", err)
    blobs = os.path.join(cache_of(home), "blobs")
    there = os.listdir(blobs) if os.path.exists(blobs) else []
    check(hub.oid[bad] not in there and not os.path.exists(os.path.join(cache_of(home), "snapshots")), there)
    return there


@hub_test(SMALL)
def wrong_hash(hub, home):
    """a content that is not what the list promised: not kept, whichever hash it has"""
    good = hub.files
    hub.files = {**good, "model.safetensors": noise(300000, 7)}
    hub.entries = [{"type": "file", "oid": git_oid(d), "size": len(d), "path": p, **({"lfs": {"oid": hub.oid[p], "size": len(d)}} if hub.is_lfs(p) else {})}
                   for p, d in good.items()]
    there = rejected(hub, home, "SHA-256", "promises " + hub.oid["model.safetensors"])
    check(not [f for f in there if f.startswith(hub.oid["model.safetensors"])], there)
    hub.files = {**good, "config.json": b'{"a": 2}'}
    shutil.rmtree(cache_of(home))
    there = rejected(hub, home, "config.json", "SHA-1", "promises " + git_oid(good["config.json"]), bad="config.json")
    check(not [f for f in there if f.startswith(git_oid(good["config.json"]))], there)


@hub_test(SMALL)
def wrong_size(hub, home):
    """sizes that do not fit: of the answer, of the range, of the hub's own header; another commit, another file"""
    def answers(kind_wanted, f):
        hub.twist = lambda h, kind, name: kind == kind_wanted and name == "model.safetensors" and (f(h) or True)
    body = SMALL["model.safetensors"]
    answers("store", lambda h: h.body(body + b"x", 200))
    rejected(hub, home, "the size that the server names is 300001, expected 300000")
    answers("store", lambda h: h.body(body[:-1], 200))
    rejected(hub, home, "is 299999, expected 300000")
    answers("resolve", lambda h: h.send(302, Location=hub.store + "/blob/model.safetensors", X_Linked_Size="5"))
    rejected(hub, home, "is 5, expected 300000")
    answers("resolve", lambda h: h.send(302, Location=hub.store + "/blob/model.safetensors", X_Linked_Etag='"' + "a" * 64 + '"'))
    rejected(hub, home, "another file")
    answers("resolve", lambda h: h.send(302, Location=hub.store + "/blob/model.safetensors", X_Repo_Commit="b" * 40))
    rejected(hub, home, "commit " + "b" * 40)
    hub.twist = None
    for lie in ({"size": -1}, {"size": 2**62}, {"size": 1.5}, {"size": "5"}, {"size": None}, {"size": 299999}):
        hub.entries = None
        hub.entries = hub.tree()
        for row in hub.entries:
            if row["path"] == "model.safetensors":
                row.update(lie)
        rejected(hub, home, "size")


@hub_test(BIG)
def wrong_range(hub, home):
    """another range than the one asked for"""
    hub.twist = lambda h, kind, name: kind == "store" and (h.body(b"x" * (4 * MIB), 206, Content_Range=f"bytes 7-{4 * MIB + 6}/{24 * MIB}") or True)
    rejected(hub, home, "the first byte that the server sends is 7, expected ")


@hub_test(SMALL)
def endless(hub, home):
    """a body without end, of a file and of a list; a header without end: cut off"""
    def flood(h, start_, unit):
        h.close_connection = True
        h.wfile.write(start_)
        try:
            while True:
                h.wfile.write(unit)
        except OSError:
            pass
    hub.twist = lambda h, kind, name: kind == "store" and (flood(h, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"x" * 65536) or True)
    rejected(hub, home, "more than it promised")
    for k in ("revision", "tree"):
        hub.twist = lambda h, kind, name, k=k: kind == k and (flood(h, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[", b" " * 65536) or True)
        rejected(hub, home, "longer than")
        hub.twist = lambda h, kind, name, k=k: kind == k and (flood(h, b"HTTP/1.1 200 OK\r\n", b"X-Y: " + b"z" * 1000 + b"\r\n") or True)
        rejected(hub, home, "longer than")
    hub.twist = lambda h, kind, name: kind == "store" and (flood(h, b"HTTP/1.1 200 OK\r\n", b"X-Y: " + b"z" * 1000 + b"\r\n") or True)
    rejected(hub, home)
    hub.twist = None
    hub.page = 0  # every page names the next one
    rejected(hub, home, "does not end")


@hub_test(SMALL)
def redirects(hub, home):
    """redirects to files, to other protocols, in circles: not followed"""
    secret = os.path.join(home, "secret")
    with open(secret, "w", encoding="ascii") as f:
        f.write("secret")
    for k in ("revision", "resolve"):
        for to in ("file://" + secret, "ftp://127.0.0.1/x", "gopher://127.0.0.1:70/x", "dict://127.0.0.1/"):
            hub.twist = lambda h, kind, name, k=k, to=to: kind == k and (h.send(302, Location=to) or True)
            rejected(hub, home, "only http and https are followed")
        hub.twist = lambda h, kind, name, k=k: kind == k and (h.send(302, Location=h.path) or True)
        rejected(hub, home, "redirects")
        hub.twist = lambda h, kind, name, k=k: kind == k and (h.send(302) or True)
        rejected(hub, home, "where to")
    hub.twist = lambda h, kind, name: kind == "revision" and h.server_name == "hub" and (h.send(307, Location=hub.store + "/x") or True)
    hub.seen.clear()
    pull(home, hub, "org/model", "--tries", "1")
    check(hub.requests("store") and not any("Authorization" in h for h in hub.requests("store")), "the token left the hub")


@hub_test(SMALL)
def names(hub, home):
    """names that lead out of the folder, or nowhere: the repository is refused, nothing is written"""
    row = {"type": "file", "oid": git_oid(b"x"), "size": 1}
    for bad in ("../x.safetensors", "/etc/x", "a/../../x", "a//b", "./x", "a/.", "a\\..\\x", "x\n", "\x1b[2Jx", "x\x7f", "", "a/", "n" * 300, "d/" * 600 + "x", "..", "nul\0x"):
        hub.entries = None
        hub.entries = hub.tree() + [{**row, "path": bad}]
        before = everything(TMP)
        rc, out, err = pull(home, hub, "org/model", "--to", os.path.join(home, "to", "deep"))
        check(rc == 1 and out == "" and "\x1b" not in err, repr(bad), rc, err)
        check(everything(TMP) == before, "something was written for", repr(bad))
    for lie in ({"path": "config.json"}, {"oid": "../../x", "path": "x"}, {"oid": "A" * 40, "path": "x"}, {"oid": None, "path": "x"}, {"path": 5}, {"path": "x", "lfs": {"oid": "ab"}},
                {"path": "x", "oid": git_oid(SMALL["config.json"])}, {"type": 3, "path": "x"}):
        hub.entries = None
        hub.entries = hub.tree() + [{**row, **lie}]
        rejected(hub, home)
    hub.entries = None
    for body in (b"", b"[", b"{}", b"[" * 100000, b'[{"type":"file"}]', b"nonsense", b"[5]", b'{"a":1,"a":2}', b"\xff"):
        hub.twist = lambda h, kind, name, body=body: kind == "tree" and (h.send(200, body) or True)
        rejected(hub, home)
    for sha in ("../../../x", "main", "", 5, None):
        hub.twist = lambda h, kind, name, sha=sha: kind == "revision" and (h.send_json({"sha": sha}) or True)
        rejected(hub, home, "sha")


@hub_test({**{f"model-{i:05d}-of-00050.safetensors": noise(100 + i, i) for i in range(1, 51)}, **SMALL, "model.safetensors.index.json": b"{}"})
def pages(hub, home):
    """a list in pages; links that name another host stay with the hub that was asked; many small files"""
    hub.page = 7
    rc, out, err = pull(home, hub, "org/model")
    check(rc == 0 and len(os.listdir(out.strip())) == 50 + 1 + 4, rc, err)
    check(len(hub.requests("hub", "/tree/")) == 9, len(hub.requests("hub", "/tree/")))


@hub_test(SMALL)
def proxy(hub, home):
    """through a proxy, as the environment says"""
    address = hub.endpoint
    hub.endpoint, hub.store = "http://hub.invalid", "http://store.invalid"
    old, seen = Answer.do_GET, []

    def through(h):
        seen.append(h.path)
        if h.path.startswith("http://store.invalid/blob/"):
            h.content(urllib.parse.urlsplit(h.path).path[len("/blob/"):])
        else:
            old(h)
    Answer.do_GET = through
    try:
        rc, out, err = pull(home, hub, "org/model", http_proxy=address)
    finally:
        Answer.do_GET = old
    check(rc == 0 and len(seen) >= 6 and all(p.startswith("http://") for p in seen), rc, err, seen)


@hub_test(BIG)
def disk(hub, home):
    """a disk that is too small, and one that fills up meanwhile: said, and it goes on when there is room"""
    if os.geteuid() != 0:
        raise Skip("only root can make a small disk")
    small = os.path.join(home, "small")
    os.mkdir(small)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=110m", "tmpfs", small], capture_output=True, check=False).returncode:
        raise Skip("no tmpfs may be mounted here")
    try:
        ballast = os.path.join(small, "ballast")
        with open(ballast, "wb") as f:
            f.write(bytes(60 * MIB))
        rc, out, err = pull(small, hub, "org/model")
        check(rc == 1 and "25.2 MB are missing" in err and "has room for" in err and not hub.requests("store"), rc, err)
        os.remove(ballast)

        def fill(h, kind, name):
            if kind == "store" and not os.path.exists(ballast):
                with open(ballast, "wb") as f:
                    try:
                        f.write(bytes(100 * MIB))
                    except OSError:
                        pass
            return False
        hub.twist = fill
        rc, out, err = pull(small, hub, "org/model")
        check(rc == 1 and "No space left" in err and "free some space" in err, rc, err)
        hub.twist = None
        os.remove(ballast)
        rc, out, err = pull(small, hub, "org/model")
        check(rc == 0 and same(os.path.join(out.strip(), "model.safetensors"), BIG["model.safetensors"]), rc, err)
    finally:
        subprocess.run(["umount", "-l", small], capture_output=True, check=False)


def main():
    global count, failures
    only = sys.argv[1:]
    for t in TESTS:
        count += 1
        name = t.__doc__
        if only and not any(o in name for o in only):
            continue
        t0 = time.time()
        try:
            t()
            print(f"ok {count} - {name}", flush=True)
        except Skip as e:
            print(f"ok {count} - {name} # skip {e}", flush=True)
        except Exception as e:  # a test that breaks is one that failed  # pylint: disable=broad-except
            failures += 1
            print(f"not ok {count} - {name}\n# {type(e).__name__}: {str(e)[:1500]}", flush=True)
        if os.environ.get("TIMES"):
            print(f"# {time.time() - t0:.1f} s", flush=True)
    print(f"1..{count}")
    shutil.rmtree(TMP, ignore_errors=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
