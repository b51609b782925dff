#!/usr/bin/env python3
"""aha serve over https: versions, certificates that are wrong, names, new certificates while it serves, clients that misbehave.
Prints TAP."""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

import servelib
from servelib import BIN, PUZZLE, Skip, check, main, test

TMP = tempfile.mkdtemp(prefix="aha-tls-")
BODY = {"model": "aha-tiny", "messages": PUZZLE, "max_tokens": 40, "seed": 1}


def path(name):
    return os.path.join(TMP, name)


def openssl(*args):
    if not shutil.which("openssl"):
        raise Skip("no openssl here")
    r = subprocess.run(["openssl", *args], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    check(r.returncode == 0, args, r.stderr)


def made(name, *extra, kind=("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")):
    """a certificate of its own for localhost, 127.0.0.1 and aha.example: (certificate, key)"""
    cert, key = path(name + ".pem"), path(name + ".key")
    if not os.path.exists(cert):
        openssl("req", "-x509", "-newkey", *kind, "-keyout", key, "-out", cert, "-nodes", "-subj", f"/CN={name}",
                "-addext", "subjectAltName=DNS:localhost,DNS:aha.example,IP:127.0.0.1", *(extra or ("-days", "30")))
    return cert, key


class Server(servelib.Server):
    def __init__(self, cert, key, *args):  # pylint: disable=super-init-not-called
        self.cert, self.said, self.port = cert, "", None
        self.p = subprocess.Popen([BIN, "serve", "--port", "0", "--tls-cert", cert, "--tls-key", key, *args], stderr=subprocess.PIPE,
                                  stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True)
        self.wait_said(r"at https://\S+:(\d+)$")

    def wait_said(self, pattern):
        for line in self.p.stderr:
            self.said += line
            m = re.search(pattern, line)
            if m:
                self.port = self.port or int(m.group(1))
                return line
        raise AssertionError(self.said)

    def context(self, ca=None, version=None):
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        c.load_verify_locations(ca or self.cert)
        if version:
            c.minimum_version = c.maximum_version = version
        return c

    def https(self, ca=None, timeout=servelib.PATIENCE_S):
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=self.context(ca))

    def ask(self, method, path, body=None, headers=None, timeout=servelib.PATIENCE_S):
        c = self.https(timeout=timeout)
        try:
            h = {"Content-Type": "application/json", **(headers or {})}
            c.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body), h)
            r = c.getresponse()
            return r.status, r.headers, r.read().decode()
        finally:
            c.close()

    def wrapped(self, **kw):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=servelib.PATIENCE_S)
        return self.context(**kw).wrap_socket(s, server_hostname="127.0.0.1")


@test
def answers():
    """the answers are those of plain HTTP; several on one connection; streams; what is refused is read whole"""
    with Server(*made("one")) as s, servelib.Server() as plain:
        want = json.loads(plain.ask("POST", "/v1/chat/completions", BODY)[2])["choices"]
        c = s.https()
        for _ in range(3):
            c.request("POST", "/v1/chat/completions", json.dumps(BODY), {"Content-Type": "application/json"})
            r = c.getresponse()
            check(r.status == 200 and json.loads(r.read())["choices"] == want)
        c.request("POST", "/v1/chat/completions", json.dumps({**BODY, "stream": True}), {"Content-Type": "application/json"})
        r = c.getresponse()
        events = r.read().decode()
        check(r.status == 200 and events.rstrip().endswith("data: [DONE]"), events[-200:])
        c.close()
        status, _, text = s.ask("POST", "/v1/chat/completions", b'{"model": "aha-tiny", "messages": ' + b" " * (1 << 20) + json.dumps(PUZZLE).encode() + b"}")
        check(status == 200, status, text)
        with s.wrapped() as w:  # a chunked body without end: refused in the middle of it
            w.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
            try:
                for _ in range(80):
                    w.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
            except OSError:
                pass
            try:
                got = w.recv(65536)
            except OSError:
                got = b""
            check(got == b"" or got.startswith(b"HTTP/1.1 413 "), got)
        check(s.health()[0] == 200 and s.stop() == 0, s.said)


@test
def versions():
    """TLS 1.2 and 1.3; nothing older, no exchange of keys by RSA, and plain HTTP gets no answer"""
    with Server(*made("rsa", kind=("rsa:2048",))) as s:
        for v, ok in ((ssl.TLSVersion.TLSv1_3, "TLSv1.3"), (ssl.TLSVersion.TLSv1_2, "TLSv1.2")):
            with s.wrapped(version=v) as w:
                check(w.version() == ok, w.version())
        for args in (["-tls1_1"], ["-tls1"], ["-tls1_2", "-cipher", "AES128-GCM-SHA256:AES256-GCM-SHA384"]):
            r = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{s.port}", *args, "-cipher", "ALL:@SECLEVEL=0"] if len(args) == 1 else
                               ["openssl", "s_client", "-connect", f"127.0.0.1:{s.port}", *args], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
            check(r.returncode != 0 and "Cipher is (NONE)" in r.stdout, args, r.stdout[-300:], r.stderr)
        with socket.create_connection(("127.0.0.1", s.port), timeout=servelib.PATIENCE_S) as raw:
            raw.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            check(b"HTTP/1" not in servelib.drain(raw))
        check(s.health()[0] == 200)


@test
def wrong():
    """files that are none, or do not belong together, are named; half of the pair is wrong usage"""
    one, two = made("one"), made("two")
    locked = path("locked.key")
    openssl("pkcs8", "-topk8", "-in", one[1], "-out", locked, "-passout", "pass:secret")
    with open(path("text"), "w", encoding="ascii") as f:
        f.write("no certificate\n")
    open(path("empty"), "w", encoding="ascii").close()
    for cert, key, words, status in [
            (path("none.pem"), one[1], "none.pem", 1), (one[0], path("none.key"), "none.key", 1), (path("text"), one[1], "text' is not a certificate", 1),
            (one[0], path("text"), "text' is not a private key", 1), (path("empty"), one[1], "empty' ", 1), (one[1], one[0], "is not a certificate", 1),
            (one[0], two[1], "does not belong to the certificate", 1), (one[0], locked, "without a password", 1), (TMP, one[1], "folder", 1),
            (one[0], None, "belong together", 2), (None, one[1], "belong together", 2)]:
        args = (["--tls-cert", cert] if cert else []) + (["--tls-key", key] if key else [])
        r = subprocess.run([BIN, "serve", "--port", "0", *args], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=servelib.PATIENCE_S)
        check(r.returncode == status and words in r.stderr, cert, key, r.returncode, r.stderr)
        with open(one[1], encoding="ascii") as f:
            check(f.read().split("\n")[1] not in r.stderr)


@test
def names():
    """the names of the certificate are the server's own; another is refused as without https"""
    with Server(*made("one")) as s:
        for host, want in (("aha.example", 200), (f"aha.example:{s.port}", 200), ("localhost", 200), ("evil.example", 403), ("xaha.example", 403)):
            check(s.ask("GET", "/health", headers={"Host": host})[0] == want, host)


@test
def expired():
    """a certificate that has expired is used, and that is said"""
    cert, key = path("old.pem"), path("old.key")
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", key, "-out", path("old.csr"), "-nodes", "-subj", "/CN=old")
    with open(path("index.txt"), "w", encoding="ascii"), open(path("ca.conf"), "w", encoding="ascii") as f:
        f.write(f"[ca]\ndefault_ca = c\n[c]\ndatabase = {path('index.txt')}\nserial = {path('serial')}\nnew_certs_dir = {TMP}\ndefault_md = sha256\npolicy = p\n[p]\ncommonName = supplied\n")
    openssl("ca", "-batch", "-selfsign", "-config", path("ca.conf"), "-create_serial", "-in", path("old.csr"), "-keyfile", key, "-out", cert, "-startdate", "20200101000000Z",
            "-enddate", "20200201000000Z", "-notext")
    with Server(cert, key) as s:
        check("has expired" in s.said, s.said)


@test
def again():
    """new files at SIGHUP: for new connections, the others go on; wrong ones change nothing; then the server still ends well"""
    one, two, at = made("one"), made("two"), (path("live.pem"), path("live.key"))
    for src, dst in zip(one, at):
        shutil.copy(src, dst)
    with Server(*at) as s:
        held = s.https(ca=one[0])
        held.request("GET", "/health")
        check(held.getresponse().read())
        s.p.send_signal(signal.SIGHUP)
        s.wait_said("the certificate is the same")
        shutil.copy(two[0], at[0])  # the key is not there yet
        s.p.send_signal(signal.SIGHUP)
        s.wait_said("the one before stays")
        s.https(ca=one[0]).request("GET", "/health")
        shutil.copy(two[1], at[1])
        s.p.send_signal(signal.SIGHUP)
        s.wait_said("was read again")
        c = s.https(ca=two[0])
        c.request("GET", "/health")
        check(c.getresponse().status == 200)
        try:
            s.https(ca=one[0]).request("GET", "/health")
            check(False, "the old certificate is still shown")
        except ssl.SSLCertVerificationError:
            pass
        held.request("GET", "/health")
        check(held.getresponse().status == 200)
        held.close()
        c.close()
        check(s.stop() == 0, s.said)


@test
def misbehaving():
    """handshakes that are never finished end by a deadline and hold up nobody; a client killed in a stream frees its place"""
    with Server(*made("one")) as s:
        began = time.monotonic()
        stuck = [socket.create_connection(("127.0.0.1", s.port), timeout=servelib.PATIENCE_S) for _ in range(60)]
        for i, c in enumerate(stuck):
            c.sendall((b"", b"\x16", b"\x16\x03\x01\x02\x00\x01", os.urandom(3000))[i % 4])
        t0 = time.monotonic()
        check(s.health()[0] == 200 and time.monotonic() - t0 < 10)  # their deadline is 15 s
        w = s.wrapped()
        body = json.dumps({**BODY, "stream": True, "max_tokens": 400}).encode()
        w.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        check(w.recv(100))
        w.close()
        s.idle()
        for c in stuck:
            check(len(servelib.drain(c)) < 4000)
            c.close()
        check(time.monotonic() - began < 100, time.monotonic() - began)
        check(s.health()[0] == 200)


if __name__ == "__main__":
    rc = main()
    shutil.rmtree(TMP, ignore_errors=True)
    raise SystemExit(rc)
