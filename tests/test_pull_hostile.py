#!/usr/bin/env python3
"""aha pull against servers that fail or lie, names that lead astray, disks that fill.  Prints TAP."""
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse

from hublib import (Answer, BIG, Hub, MIB, SMALL, Skip, TMP, cache_of, check, environment, everything, git_oid, hub_test, main,
                    noise, pull, same, test)


# ---- servers that fail ----
@hub_test(SMALL)
def busy(hub, home):
    """429 with Retry-After is waited for; 500, 503 and refused connections are tried again; for ever is too long"""
    state = {"429": 1, "500": 2, "revision": 1, "tree": 1}

    def twist(h, kind, name):
        if kind in ("revision", "tree") and state[kind]:
            state[kind] -= 1
            if kind == "tree":
                h.send(503)
            else:
                h.send(429, RateLimit='"api";r=0;t=1')
            state["asked"] = state.get("asked", time.time())
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
    check(rc == 0 and state["waited"] >= 0.9 and state["t"] - state["asked"] >= 0.9, rc, err, state)
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
    rc, out, err = pull(home, hub, "org/model", HF_TOKEN="")
    check(rc == 0 and any(h.get("Authorization") == "Bearer hf_file" for h in hub.requests("hub")), rc, err)
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


@test
def encrypted():
    """https: a certificate that nobody vouches for is refused; from https nothing leads to http"""
    home = tempfile.mkdtemp(dir=TMP)
    cert, key = os.path.join(home, "cert"), os.path.join(home, "key")
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-out", cert, "-keyout", key]
    if not shutil.which("openssl") or subprocess.run(make, capture_output=True, check=False).returncode:
        raise Skip("no openssl here to make a certificate")
    hub, open_hub = Hub(SMALL, tls=(cert, key)), Hub(SMALL)
    rc, out, err = pull(home, hub, "org/model", "--tries", "1")
    check(rc == 1 and "certificate" in err and not hub.seen, rc, err)
    rc, out, err = pull(home, hub, "org/model", SSL_CERT_FILE=cert)
    check(rc == 0 and len(os.listdir(out.strip())) == 5, rc, err)
    shutil.rmtree(cache_of(home))
    for k in ("revision", "resolve"):
        hub.twist = lambda h, kind, name, k=k: kind == k and (h.send(302, Location=open_hub.endpoint + h.path) or True)
        rc, out, err = pull(home, hub, "org/model", SSL_CERT_FILE=cert)
        check(rc == 1 and "not encrypted: not followed" in err and not open_hub.seen, rc, err)
    hub.close()
    open_hub.close()


@hub_test(SMALL)
def names(hub, home):
    """names that lead out of the folder, or nowhere: the repository is refused, nothing is written"""
    row = {"type": "file", "oid": git_oid(b"x"), "size": 1}
    for bad in ("../x.safetensors", "/etc/x", "a/../../x", "a//b", "./x", "a/.", "a\\..\\x", "x\n", "\x1b[2Jx", "x\x7f", "", "a/", "n" * 300, "d/" * 600 + "x", "..", "nul\0x"):
        hub.entries = None
        hub.entries = hub.tree() + [{**row, "path": bad}]
        before = everything(home)
        rc, out, err = pull(home, hub, "org/model", "--to", os.path.join(home, "to", "deep"))
        check(rc == 1 and out == "" and "\x1b" not in err, repr(bad), rc, err)
        check(everything(home) == before, "something was written for", repr(bad))
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
    check(rc == 0 and len(os.listdir(out.strip())) == 50 + 1 + 4 + 1, rc, err)
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
    for handler in hub.handlers:
        handler.do_GET = through
    rc, out, err = pull(home, hub, "org/model", http_proxy=address)
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


if __name__ == "__main__":
    sys.exit(main())
