#!/usr/bin/env python3
"""make install: what is put where and nothing else; the installed program, library and manual pages at work; a program in C through
pkg-config and another process through ctypes give the tokens that the program gives; the systemd unit, and the program under its
filters; licences.  Prints TAP."""
import ctypes
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import urllib.request

from taplib import Skip, check, main, test

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
MAKE, CC, BUILD = os.environ.get("MAKE", "make"), os.environ.get("CC", "cc"), os.environ.get("BUILD", "build")
TMP = tempfile.mkdtemp(prefix="aha-install-")
DEST, PREFIX = os.path.join(TMP, "dest dir"), "/usr/local"
MODEL = os.path.join(ROOT, "models", "aha-tiny")
QUESTION, SEED = "Using 8, 13 and 2, make 29.", 7


def run(cmd, env=None, **kw):
    r = subprocess.run(cmd, capture_output=True, text=True, env={**os.environ, **(env or {})}, check=False, stdin=subprocess.DEVNULL, **kw)
    return r.returncode, r.stdout, r.stderr


def make(*args):
    rc, out, err = run([MAKE, "-s", f"BUILD={BUILD}", *args], cwd=ROOT)
    check(rc == 0, "make", args, out, err)


def at(*parts):
    return os.path.join(DEST, PREFIX.lstrip("/"), *parts)


def found(folder):
    return sorted(os.path.relpath(os.path.join(d, f), folder) for d, _, fs in os.walk(folder) for f in fs)


def commands():
    text = run([at("bin", "aha"), "--help"])[1]
    return re.findall(r"^  (\w+) ", text.split("\nCommands\n")[1].split("\n\n")[0], re.M)


def pkg_config(*args):
    link = os.path.join(TMP, "dest")  # pkg-config itself is no friend of blanks
    if not os.path.islink(link):
        os.symlink(DEST, link)
    env = {"PKG_CONFIG_PATH": os.path.join(link, PREFIX[1:], "lib", "pkgconfig"), "PKG_CONFIG_SYSROOT_DIR": link}
    rc, out, err = run(["pkg-config", *args, "aha"], env)
    check(rc == 0, err)
    return out.split()


def said_by_program():
    """thinking and answer"""
    rc, out, err = run([at("bin", "aha"), "run", "--json", "--seed", str(SEED), "-p", QUESTION], cwd=TMP)
    check(rc == 0, err)
    r = json.loads(out)
    return r["thinking"], r["answer"]


# ---- what is installed ----
@test
def files():
    """every file in its place, with its mode, under DESTDIR alone"""
    before = run(["git", "status", "--porcelain", "--ignored=no"], cwd=ROOT)[1]
    existed = {p: os.path.lexists(p) for p in ("/usr/local/bin/aha", "/usr/local/lib/libaha.so", "/usr/local/include/aha.h")}
    make("install", f"DESTDIR={DEST}", f"PREFIX={PREFIX}")
    want = ["bin/aha", "include/aha.h", "lib/libaha.a", "lib/libaha.so", "lib/libaha.so.0", "lib/libaha.so.0.1.0", "lib/pkgconfig/aha.pc",
            "lib/systemd/system/aha.service", "share/doc/aha/LICENSE", "share/doc/aha/LICENSE.gguf", "share/man/man1/aha.1"]
    want += [f"share/man/man1/aha-{c}.1" for c in commands()]
    check(found(at()) == sorted(want), set(found(at())) ^ set(want))
    check(found(DEST) == sorted(os.path.join(PREFIX[1:], w) for w in want), found(DEST))
    for w in want:
        st = os.lstat(at(w))
        if not stat.S_ISLNK(st.st_mode):
            check(stat.S_IMODE(st.st_mode) == (0o755 if w == "bin/aha" else 0o644), w, oct(st.st_mode))
    check(os.readlink(at("lib", "libaha.so")) == "libaha.so.0" and os.readlink(at("lib", "libaha.so.0")) == "libaha.so.0.1.0")
    for p, was in existed.items():
        check(os.path.lexists(p) == was, p, "was touched")
    check(run(["git", "status", "--porcelain", "--ignored=no"], cwd=ROOT)[1] == before, "the sources were touched")
    for w in ("lib/pkgconfig/aha.pc", "lib/systemd/system/aha.service"):
        with open(at(w), encoding="utf-8") as f:
            text = f.read()
        check("@" not in re.sub(r"SystemCallFilter=.*", "", text) and DEST not in text and ROOT not in text, w, text)
    with open(at("share/doc/aha/LICENSE.gguf"), encoding="utf-8") as f:
        check("Copyright (c)" in f.read())


@test
def program():
    """the installed program works anywhere, with nothing of the repository; it finds the version of the header"""
    rc, out, err = run([at("bin", "aha"), "--version"], cwd=TMP)
    with open(at("include", "aha.h"), encoding="utf-8") as f:
        version = re.search(r'#define AHA_VERSION "(.*)"', f.read()).group(1)
    check(rc == 0 and out == f"aha {version}\n", out, err)
    check(pkg_config("--modversion") == [version])
    thinking, answer = said_by_program()
    check(thinking and answer)


@test
def library():
    """libaha: a soname; shared and static, it shows what aha.h declares and no more"""
    out = run(["readelf", "-d", at("lib", "libaha.so")])[1]
    check("soname: [libaha.so.0]" in out, out)
    shared = set(re.findall(r" T (\w+)$", run(["nm", "-D", "--defined-only", at("lib", "libaha.so")])[1], re.M))
    static = set(re.findall(r" [TDBRVW] (\w+)$", run(["nm", "-g", "--defined-only", at("lib", "libaha.a")])[1], re.M))
    check(len(shared) > 20 and shared == static and all(s.startswith("aha_") for s in shared), shared ^ static)
    needed = re.findall(r"NEEDED.*\[lib(.*?)\.so", out)
    check(set(needed) <= {"jansson", "pcre2-8", "utf8proc", "m", "c", "mvec"} and "jansson" in needed, needed)


# ---- other programs ----
def ask(static):
    binary = os.path.join(TMP, "ask-static" if static else "ask")
    flags = pkg_config("--cflags", *(["--static"] if static else []), "--libs")
    if static:
        flags = [at("lib", "libaha.a") if f == "-laha" else f for f in flags]
    rc, _, err = run([*CC.split(), "-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-o", binary, os.path.join(ROOT, "examples", "ask.c"), *flags])
    check(rc == 0, flags, err)
    rc, out, err = run([binary, MODEL, QUESTION, str(SEED)], {} if static else {"LD_LIBRARY_PATH": at("lib")}, cwd=TMP)
    check(rc == 0, err)
    check(("libaha.so.0" in run(["readelf", "-d", binary])[1]) != static)
    return out


@test
def example():
    """examples/ask.c: compiled through pkg-config, shared and static; it says what the program says"""
    thinking, answer = said_by_program()
    out = ask(False)
    check([p.strip() for p in out.split("\n\n") if p.strip()] == [p.strip() for p in (thinking + "\n\n" + answer).split("\n\n") if p.strip()], out, thinking, answer)
    check(ask(True) == out)
    rc, _, err = run([os.path.join(TMP, "ask"), os.path.join(TMP, "none"), "x"], {"LD_LIBRARY_PATH": at("lib")})
    check(rc == 1 and "none" in err, rc, err)


CTYPES = r'''
import ctypes as C, json, sys
lib = C.CDLL(sys.argv[1])
class Error(C.Structure): _fields_ = [("code", C.c_int), ("text", C.c_char * 512)]
class Options(C.Structure): _fields_ = [("size", C.c_size_t), ("threads", C.c_int), ("chunk", C.c_int), ("ctx", C.c_int), ("seqs", C.c_int),
    ("cache_bytes", C.c_int64), ("kv_type", C.c_char_p), ("cpu", C.c_char_p), ("draft", C.c_bool)]
class Message(C.Structure): _fields_ = [("role", C.c_char_p), ("text", C.c_char_p), ("n_bytes", C.c_size_t), ("calls", C.c_void_p), ("n_calls", C.c_int), ("prefix", C.c_bool)]
class Sample(C.Structure): _fields_ = [("size", C.c_size_t), ("temperature", C.c_float), ("top_p", C.c_float), ("min_p", C.c_float), ("top_k", C.c_int),
    ("seed", C.c_uint64), ("stream", C.c_uint64)]
SEQ = C.c_void_p
class Request(C.Structure): _fields_ = [("size", C.c_size_t), ("prompt", C.POINTER(C.c_int32)), ("n_prompt", C.c_int), ("max_new", C.c_int), ("sample", C.POINTER(Sample)),
    ("stop", C.c_void_p), ("n_stop", C.c_int), ("want_logp", C.c_bool), ("no_cache", C.c_bool), ("on_token", C.c_void_p), ("on_done", C.c_void_p), ("user", C.c_void_p)]
class Status(C.Structure): _fields_ = [("size", C.c_size_t), ("state", C.c_int), ("finish", C.c_int), ("tokens", C.POINTER(C.c_int32)), ("logp", C.c_void_p),
    ("n_tokens", C.c_int), ("stop_token", C.c_int), ("n_prompt", C.c_int), ("prompt_done", C.c_int), ("prompt_cached", C.c_int)]
e = Error()
def ok(rc):
    if rc: sys.exit(e.text.decode())
def sized(cls, **kw): return cls(size=C.sizeof(cls), **kw)
engine, seq = C.c_void_p(), C.c_void_p()
ok(lib.aha_engine_open(C.byref(engine), sys.argv[2].encode(), C.byref(sized(Options)), C.byref(e)))
question = sys.argv[3].encode()
ids, n, think = C.POINTER(C.c_int32)(), C.c_int(), C.c_bool()
ok(lib.aha_chat(engine, C.byref(Message(role=b"user", text=question, n_bytes=len(question))), 1, C.byref(ids), C.byref(n), C.byref(think), C.byref(e)))
sample = sized(Sample, temperature=0.6, top_p=0.95, seed=int(sys.argv[4]))
request = sized(Request, prompt=ids, n_prompt=n.value, sample=C.pointer(sample))
ok(lib.aha_seq_submit(engine, C.byref(request), C.byref(seq), C.byref(e)))
ok(lib.aha_engine_run(engine, C.byref(e)))
s = sized(Status)
lib.aha_seq_poll(seq, C.byref(s))
text, size = C.c_void_p(), C.c_size_t()
ok(lib.aha_detokenize(engine, s.tokens, s.n_tokens, C.byref(text), C.byref(size), C.byref(e)))
print(json.dumps({"prompt": ids[:n.value], "tokens": s.tokens[:s.n_tokens], "finish": s.finish, "text": C.string_at(text.value, size.value).decode()}))
lib.aha_free(text); lib.aha_free(ids)
lib.aha_seq_free(seq); lib.aha_engine_free(engine)
'''


@test
def from_python():
    """ctypes, with the structs of the first version of the header: the program's prompt, and its answer token by token"""
    rc, out, err = run([sys.executable, "-c", CTYPES, at("lib", "libaha.so"), MODEL, QUESTION, str(SEED)])
    check(rc == 0, rc, err)
    r = json.loads(out)
    p = subprocess.run([at("bin", "aha"), "tokenize", "--chat"], input=json.dumps([{"role": "user", "content": QUESTION}]), capture_output=True, text=True, check=False)
    check(json.loads(p.stdout) == r["prompt"], p.stdout, p.stderr, r["prompt"])
    thinking, answer = said_by_program()
    check(r["finish"] == 1 and thinking.strip() in r["text"] and answer.strip() in r["text"] and len(r["tokens"]) > 10, r, thinking, answer)
    u = json.loads(run([at("bin", "aha"), "run", "--json", "--seed", str(SEED), "-p", QUESTION])[1])["usage"]
    check(u["prompt_tokens"] == len(r["prompt"]) and u["completion_tokens"] - len(r["tokens"]) in (0, 1), u, len(r["tokens"]))


# ---- manual pages ----
@test
def manual():
    """manual pages: set without a warning; a page for each command, every option of its help in it"""
    if shutil.which("man"):
        setter = lambda p: run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", p], {"MANWIDTH": "80"})
    elif shutil.which("groff"):
        setter = lambda p: run(["groff", "-man", "-ww", "-Kutf8", "-Tutf8", "-Z", p])
    else:
        raise Skip("neither man nor groff is here")
    for c in [None] + commands():
        page = at("share", "man", "man1", f"aha-{c}.1" if c else "aha.1")
        rc, _, err = setter(page)
        check(rc == 0 and err == "", page, err)
        with open(page, encoding="utf-8") as f:
            text = re.sub(r"\\f[BIR]|\\&|\\:", "", f.read()).replace("\\-", "-")
        said = run([at("bin", "aha"), *([c] if c else []), "--help"])[1]
        for option in re.findall(r"^  (?:-\w, |    )(--\S+)", said, re.M):
            check(option in text, page, option)
        words = re.findall(r"\w{4,}", said.replace("\\", "\\e"))
        missing = {w for w in words if w not in text and w.upper() not in text}
        check(missing <= {"Usage", "Options"}, page, missing)


# ---- the service ----
def unit():
    with open(at("lib", "systemd", "system", "aha.service"), encoding="utf-8") as f:
        return f.read()


@test
def service():
    """the systemd unit: accepted, and judged to expose little"""
    if not shutil.which("systemd-analyze"):
        raise Skip("no systemd-analyze here")
    check(f"ExecStart={PREFIX}/bin/aha serve" in unit(), unit())
    path = os.path.join(TMP, "aha.service")
    with open(path, "w", encoding="utf-8") as f:
        link = os.path.join(TMP, "aha")
        os.symlink(at("bin", "aha"), link)
        f.write(unit().replace(f"{PREFIX}/bin/aha", link))
    rc, out, err = run(["systemd-analyze", "verify", "--man=no", path])
    said = [line for line in (out + err).splitlines() if "aha" in line]
    check(rc == 0 and not said, rc, said)
    rc, out, err = run(["systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", path])
    check(rc == 0, out[-300:], err)


def syscalls(names):
    out = set()
    for name in names:
        if not name.startswith("@"):
            out.add(name)
            continue
        rc, text, err = run(["systemd-analyze", "syscall-filter", "--no-pager", name])
        check(rc == 0, err)
        out |= syscalls([w.strip() for w in text.splitlines()[1:] if w.strip() and not w.strip().startswith("#")])
    return out


def under_filters(allowed):
    """in the child, before exec: what the unit's SystemCallFilter and MemoryDenyWriteExecute do"""
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    allow, refuse = 0x7FFF0000, 0x00050000 | 1  # EPERM
    numbers = [lib.seccomp_syscall_resolve_name(n.encode()) for n in sorted(allowed)]

    def apply():
        libc = ctypes.CDLL(None)
        if libc.prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, Linux 6.3
            os._exit(97)
        ctx = ctypes.c_void_p(lib.seccomp_init(refuse))
        for n in numbers:
            if n >= 0:
                lib.seccomp_rule_add(ctx, allow, n, 0)
        if lib.seccomp_load(ctx):
            os._exit(98)
    return apply


@test
def confined():
    """the program under the unit's system call filter and without writable code: it answers the same, and serves"""
    if not shutil.which("systemd-analyze"):
        raise Skip("no systemd-analyze here")
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        raise Skip("no libseccomp here") from None
    words = re.findall(r"^SystemCallFilter=(~?)(.*)$", unit(), re.M)
    allowed = syscalls(w for no, ws in words if not no for w in ws.split()) - syscalls(w for no, ws in words if no for w in ws.split())
    check("MemoryDenyWriteExecute=yes" in unit() and len(allowed) > 150, len(allowed))
    fn = under_filters(allowed)
    cmd = [at("bin", "aha"), "run", "--json", "--seed", str(SEED), "-p", QUESTION]
    rc, out, err = run(cmd, preexec_fn=fn)
    if rc in (97, 98):
        raise Skip("this kernel has no such filter")
    check(rc == 0 and (json.loads(out)["thinking"], json.loads(out)["answer"]) == said_by_program(), rc, out, err)
    db = os.path.join(TMP, "confined.db")
    name = re.search(r"^ExecStart=\S+ serve \$(\w+)$", unit(), re.M).group(1)  # is in the program's environment too, and must not be taken for a knob
    p = subprocess.Popen([at("bin", "aha"), "serve", "--port", "0"], stderr=subprocess.PIPE, text=True, preexec_fn=fn,
                         env={**os.environ, "AHA_DB": db, name: "--port 0"})
    try:
        said = ""
        for line in p.stderr:
            said += line
            m = re.search(r"at (http://\S+)$", line)
            if m:
                break
        check(m, said)
        body = json.dumps({"model": "aha-tiny", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 20}).encode()
        request = urllib.request.Request(m.group(1) + "/v1/chat/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            check(json.load(answer)["usage"]["completion_tokens"] > 0)
        p.send_signal(signal.SIGTERM)
        check(p.wait(60) == 0)
    finally:
        if p.poll() is None:
            p.kill()
        p.wait()
        p.stderr.close()


# ---- licences ----
@test
def licences():
    """--licenses names every library that the program is linked with, and nothing that it is not; doctor has their versions"""
    rc, out, _ = run([at("bin", "aha"), "--licenses"])
    listed = re.findall(r"^  (\S+) +(\S.*?)  +\S", out.split("Some of them load")[0], re.M)
    check(rc == 0 and all(licence for _, licence in listed), out)
    check("chat page" in out, out)  # carried in the program, not linked with it
    listed = [row for row in listed if row[0] != "chat"]
    names = {n.lower() for n, _ in listed}
    known_as = {"c": "glibc", "m": "glibc", "pthread": "glibc", "dl": "glibc", "mvec": "glibc", "crypto": "openssl", "ssl": "openssl", "pcre2-8": "pcre2",
                "sqlite3": "sqlite", "edit": "libedit", "curl": "libcurl", "microhttpd": "libmicrohttpd", "gnutls": "gnutls", "seccomp": "libseccomp"}
    needed = re.findall(r"NEEDED.*\[(?:lib(.*?)\.so|ld-linux)", run(["readelf", "-d", at("bin", "aha")])[1])
    linked = {known_as.get(n, n) for n in needed if n} - {"asan", "ubsan", "gcc_s"}
    check(linked == names, "linked and not listed:", linked - names, "listed and not linked:", names - linked)
    versions = run([at("bin", "aha"), "doctor", "--quick"])[1].split("\nlibraries\n")[1]
    for n, _ in listed:
        check(re.search(rf"^  {re.escape(n)} +\d", versions, re.M), n, versions)


@test
def gone():
    """make uninstall: not a file is left"""
    with open(at("lib", "libother.so"), "w", encoding="ascii") as f:
        f.write("not ours")
    make("uninstall", f"DESTDIR={DEST}", f"PREFIX={PREFIX}")
    check(found(DEST) == ["usr/local/lib/libother.so"], found(DEST))
    make("uninstall", f"DESTDIR={DEST}", f"PREFIX={PREFIX}")  # and again: nothing to do


if __name__ == "__main__":
    status = main(folders=False)
    shutil.rmtree(TMP, ignore_errors=True)
    sys.exit(status)
