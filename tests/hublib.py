"""What the tests of aha pull share: a hub on this machine, running the program, and TAP.  CLI_BIN: another build of the program."""
import concurrent.futures
import hashlib
import http.server
import json
import os
import random
import re
import shutil
import ssl
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


def git_oid(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub:
    """A hub and, at another address, the store that it redirects to."""

    def __init__(self, files, repo="org/model", tls=None):
        self.repo, self.files, self.commit = repo, files, COMMIT
        self.oid = {p: hashlib.sha256(d).hexdigest() if self.is_lfs(p) else git_oid(d) for p, d in files.items()}
        self.seen = []            # (server, path, headers)
        self.sent = 0             # bytes of contents that left the store
        self.twist = None         # twist(handler, kind, name) -> True: answered
        self.entries = None       # another list of files
        self.page = 1000
        self.lock = threading.Lock()
        self.handlers = []
        self.tls = tls            # (certificate, key): both speak https
        self.servers = [self.serve("hub"), self.serve("store")]
        scheme = "https" if tls else "http"
        self.endpoint = f"{scheme}://127.0.0.1:{self.servers[0].server_port}"
        self.store = f"{scheme}://localhost:{self.servers[1].server_port}"

    @staticmethod
    def is_lfs(path):
        return path.endswith((".safetensors", ".gguf"))

    def serve(self, name):
        hub = self

        class Handler(Answer):
            server_name, state = name, hub
        self.handlers.append(Handler)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
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


SMALL = {"config.json": b'{"a": 1}', "chat_template.jinja": b"", "tokenizer.json": b"{}", "tokenizer_config.json": b"[]", "README.md": b"# read", "model.safetensors": noise(300000),
         "original/consolidated.safetensors": noise(1000), "pytorch_model.bin": b"no"}
BIG = {"config.json": b"{}", "model.safetensors": noise(24 * MIB, 2)}
WANTED = ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


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


def result(number, t):
    t0 = time.time()
    try:
        t()
        line = f"ok {number} - {t.__doc__}"
    except Skip as e:
        line = f"ok {number} - {t.__doc__} # skip {e}"
    except Exception as e:  # a test that breaks is one that failed  # pylint: disable=broad-except
        line = f"not ok {number} - {t.__doc__}\n# {type(e).__name__}: {str(e)[:1500]}"
    return line + (f"\n# {time.time() - t0:.1f} s" if os.environ.get("TIMES") else "")


def main():
    """Each test has its hub and its home, and most of its time it waits: four at once."""
    chosen = [t for t in TESTS if not sys.argv[1:] or any(a in t.__doc__ for a in sys.argv[1:])]
    bad = 0
    print(f"1..{len(chosen)}", flush=True)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for line in pool.map(result, range(1, len(chosen) + 1), chosen):
            print(line, flush=True)
            bad += line.startswith("not ok")
    shutil.rmtree(TMP, ignore_errors=True)
    return 1 if bad else 0
