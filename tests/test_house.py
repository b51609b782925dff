#!/usr/bin/env python3
"""The house rules bite: tools/lint finds each kind of violation and nothing in what is allowed; libaha.so shows what include/aha.h
declares and no more.  Prints TAP."""
import os
import re
import shutil
import subprocess
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
BUILD = os.environ.get("BUILD", "build")
results = []


def report(ok, what, why=""):
    results.append(ok)
    print(f"{'ok' if ok else 'not ok'} {len(results)} - {what}", flush=True)
    if not ok and why:
        print("# " + why.strip().replace("\n", "\n# "))


# ---- lint ----
# file, its text, what lint says of it; None: nothing
CASES = [
    ("src/tensor/a.c", '#include "../infer/infer.h"', "tensor may not include infer/infer.h"),
    ("src/base/a.c", '#include "../tensor/tensor.h"', "base may not include"),
    ("src/tensor/a.c", '# include"../infer/infer.h"', "tensor may not include infer/infer.h"),
    ("src/tensor/a.c", "#include <../src/infer/infer.h>", "in quotation marks"),
    ("src/tensor/a.c", "#include <infer/infer.h>", "in quotation marks"),
    ("src/model/a.c", '#include "../format/inner.h"', "model may not include format/inner.h"),
    ("src/judge/a.c", '#include "../learn/task.h"', "judge may not include"),
    ("src/base/a.c", '#include "../../tests/testlib.h"', "neither in src nor aha.h"),
    ("src/infer/a.c", '#include "aha.h"\n#include <stdio.h>\n#include "../text/text.h"', None),
    ("src/infer/a.c", "void f(void) { exit(1); }", "exit(): the end of the program"),
    ("src/infer/a.c", "void f(void) { abort (); }", "abort()"),
    ("src/infer/a.c", "void f(int n) { assert(n); }", "assert()"),
    ("src/infer/a.c", "void f(void) { __builtin_unreachable(); }", "__builtin_unreachable()"),
    ("src/infer/a.c", "void *f(void) { return malloc(3); }", "malloc(): memory"),
    ("src/infer/a.c", "void *f(void) { return (malloc)(3); }", "malloc, taken as a value"),
    ("src/format/a.c", "void f(void) { json_set_alloc_funcs(malloc, free); }", "malloc, taken as a value"),
    ("src/cli/a.c", "void f(void *p) { free(p); }", "free(): memory"),
    ("src/format/a.c", 'int f(void) { return open("x", 0); }', "open(): a file"),
    ("src/format/a.c", 'int f(void) { return open64("x", 0); }', "open64(): a file"),
    ("src/format/a.c", "long f(void) { return syscall(2); }", "syscall(): a file"),
    ("src/format/a.c", "int f(FILE *f) { return fclose(f); }", "fclose(): a file"),
    ("src/learn/a.c", "long f(void) { return time(0); }", "time(): the clock"),
    ("src/learn/a.c", 'char *f(void) { return getenv("X"); }', "getenv(): the environment"),
    ("src/learn/a.c", 'int f(void) { return system("x"); }', "system(): a process"),
    ("src/learn/a.c", "int f(void) { return raise(6); }", "raise(): a signal"),
    ("src/learn/a.c", "int f(void) { return rand(); }", "rand(): random numbers"),
    ("src/learn/a.c", 'void f(void) { puts("x"); }', "puts(): printing"),
    ("src/learn/a.c", 'void f(char *s) { sprintf(s, "x"); }', "sprintf(): text"),
    ("src/learn/a.c", "void f(void) { /* exit(1) */ } // abort()\nconst char *s = \"malloc(3)\";", None),
    ("src/learn/a.c", "static char q = '\"'; void f(void) { exit(1); } static char p = '\"';", "exit()"),
    ("src/learn/a.c", "int f(Pool *p) { return p->open(1) + q.free(2); }", None),
    ("src/base/os_a.c", "void *f(void) { return malloc(3); }", None),
    ("src/cli/a.c", "void f(void) { exit(2); }", None),
    ("src/base/a.c", "int f(void)\n{\n" + "    ;\n" * 160 + "}\n", "a function of 162 lines"),
    ("src/base/a.c", "int f(void) {\n" + "    ;\n" * 160 + "}\n", "a function of 162 lines"),
    ("src/base/a.c", "int x;\n" * 1001, "1002 lines; at most 1000"),
    ("src/attic/a.c", "int x;", "src/attic is no room"),
    ("Makefile", "X := src/base/a.c\n", "listed by name"),
    ("Makefile", "# x\n" * 300, "fewer than 300"),
    ("docs/a.md", "see /ho" "me/jane/notes", "is a place on one machine"),
]


def lint_says(path, text):
    with tempfile.TemporaryDirectory() as d:
        os.makedirs(os.path.join(d, "tools"))
        shutil.copy(os.path.join(ROOT, "tools", "lint"), os.path.join(d, "tools"))
        shutil.copy(os.path.join(ROOT, "Makefile"), d)
        os.makedirs(os.path.join(d, "src", "base"))
        with open(os.path.join(d, "src", "base", "a.c"), "w", encoding="utf-8") as f:
            f.write("int x;\n")
        os.makedirs(os.path.dirname(os.path.join(d, path)) or d, exist_ok=True)
        with open(os.path.join(d, path), "a" if path == "Makefile" else "w", encoding="utf-8") as f:
            f.write(text + "\n")
        r = subprocess.run([os.path.join(d, "tools", "lint"), "-q"], capture_output=True, text=True, check=False,
                           env={**os.environ, "GIT_DIR": os.path.join(d, "none")})
        return r.returncode, r.stdout + r.stderr


for path, text, words in CASES:
    rc, said = lint_says(path, text)
    shown = text.split("\n")[0][:60]
    if words is None:
        report(rc == 0, f"lint lets pass: {path}: {shown}", said)
    else:
        report(rc == 1 and any(line.startswith(path + ":") and words in line for line in said.splitlines()), f"lint finds: {path}: {shown}", said)

# ---- what the library shows ----
os.chdir(ROOT)
made = subprocess.run([os.environ.get("MAKE", "make"), "-s", f"BUILD={BUILD}", "lib"], capture_output=True, text=True, check=False)
report(made.returncode == 0, "make lib", made.stderr)
shown = subprocess.run(["nm", "-D", "--defined-only", f"{BUILD}/libaha.so"], capture_output=True, text=True, check=False).stdout
shown = {line.split()[-1] for line in shown.splitlines()}
with open("include/aha.h", encoding="utf-8") as f:
    declared = set(re.findall(r"\b(aha_\w+)\(", "".join(re.findall(r"^AHA_API[^;]*;", f.read(), re.M))))
report(bool(declared) and shown == declared, "libaha.so shows what aha.h declares, and no more",
       f"hidden: {sorted(declared - shown)}; beyond the header: {sorted(shown - declared)}")
print(f"1..{len(results)}")
raise SystemExit(not all(results))
