#!/usr/bin/env python3
"""DeepSeek-R1 at its whole size, without its weights: what is in 641 GiB of files is read and checked in a moment and in little
memory, and a plan for them has the known figures.  The files are holes; without a file system that has them this is skipped.
Prints TAP."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

SECONDS, MIB = 20, 300  # 2 s on an idle machine; tests may run beside others
AHA, MAKE = "./aha", "tools/sparse_model.py"
NUMBERS, TENSORS, BYTES = 684531386000, 91991, 688574839360
results = []


def check(ok, what, *why):
    results.append(ok)
    print("%sok %d - %s" % ("" if ok else "not ", len(results), what))
    for w in why if not ok else ():
        print("# " + str(w).replace("\n", "\n# "))
    sys.stdout.flush()


def run(*args):
    """status, standard output, seconds, MiB at most"""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        p = subprocess.Popen([AHA, *args], stdout=out, stderr=err)
        _, status, used = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
        took = time.monotonic() - start
        out.seek(0)
        err.seek(0)
        text = out.read().decode()
        return p.returncode, json.loads(text) if text else {"error": err.read().decode()}, took, used.ru_maxrss / 1024


def inspect(path, what, tensors, **expected):
    rc, r, took, mib = run("inspect", path, "--json")
    check(rc == 0 and r.get("sound") and r.get("tensors") == tensors and all(r.get(k) == v for k, v in expected.items()),
          "%s: sound, %d tensors" % (what, tensors), rc, {k: r.get(k) for k in ("error", "problems", "tensors", *expected)})
    check(took <= SECONDS and mib <= MIB, "%s: within %d s and %d MiB" % (what, SECONDS, MIB), "%.2f s, %.0f MiB" % (took, mib))
    print("# %.2f s, %.0f MiB" % (took, mib))


def files(folder):
    hf, gguf = os.path.join(folder, "hf"), os.path.join(folder, "gguf")
    subprocess.run([MAKE, "hf", hf], check=True, stdout=subprocess.DEVNULL)
    inspect(hf, "the folder", TENSORS, bytes=BYTES, parameters=671026419200)
    (rc, a, took, mib), (_, b, _, _) = (run("plan", *what, "--type", "r1-q2", "--quick", "--json") for what in ((hf,), ("--preset", "r1-671b")))
    check(rc == 0 and a["types"] == b["types"] and a["types"][0]["tensors"] == 1086, "the folder as r1-q2: the preset's plan", a, b)
    check(took <= SECONDS and mib <= MIB, "that plan: within %d s and %d MiB" % (SECONDS, MIB), "%.2f s, %.0f MiB" % (took, mib))
    print("# %.2f s, %.0f MiB" % (took, mib))
    for kind, layout, tensors in (("q4_k", "split", 1086), ("iq1_s", "whole", 1025), ("q8_0", "split", 1086)):
        shutil.rmtree(gguf, ignore_errors=True)
        subprocess.run([MAKE, "gguf", gguf, "--type", kind, "--layout", layout], check=True, stdout=subprocess.DEVNULL)
        inspect(os.path.join(gguf, sorted(os.listdir(gguf))[0]), "GGUF, %s, %s" % (kind, layout), tensors, parameters=671026419200)


def plans():
    rc, r, took, mib = run("plan", "--preset", "r1-671b", "--quick", "--kv", "bf16", "--json", "--ram-gb", "24", "--ram-bandwidth", "20.2",
                           "--disk-gb", "1000", "--disk-bandwidth", "1", "--threads", "2")
    types = {t["type"]: t for t in r.get("types", [])}
    check(rc == 0 and {"BF16", "F8_E4M3", "Q8_0", "Q4_K", "IQ1_S"} <= set(types), "a plan of every type", rc, r.get("error"))
    check(took <= SECONDS and mib <= MIB, "the plan: within %d s and %d MiB" % (SECONDS, MIB), "%.2f s, %.0f MiB" % (took, mib))
    if rc:
        return
    f8, q4 = types["F8_E4M3"], types["Q4_K"]
    check((f8["numbers"], f8["tensors"], f8["file_bytes"]) == (NUMBERS, TENSORS, BYTES), "the published folder's numbers, tensors and bytes", f8)
    check(q4["tensors"] == 1086 and q4["file_bytes"] == 378077579264, "a GGUF file's tensors and bytes", q4["tensors"], q4["file_bytes"])
    experts, down = 58 * 256 * 2048 * 7168, 58 * 256 * 2048 * 7168 // 256  # r1-q2: gate and up in Q2_K, down in Q3_K, what is left in about Q6_K
    left = types["r1-q2"]["file_bytes"] - (2 * experts // 256 * 84 + down * 110)
    check(17.1e9 * 0.75 < left < 17.1e9 * 0.9, "r1-q2: its experts, and 17.1B other parameters in 6.56 bits, some finer, some in Q4_K", left)
    check(all(t["kv_bytes_per_position"] == 70272 for t in types.values()), "70,272 bytes of keys and values a position")
    check(abs(r["fixed_parameters_per_token"] / 16.19e9 - 1) < 0.001 and abs(r["routed_parameters_per_token"] / 20.43e9 - 1) < 0.001,
          "what a token reads: 16.19B fixed and 20.43B routed parameters", r["fixed_parameters_per_token"], r["routed_parameters_per_token"])
    check(r["parameters"] == 671026419200, "671.0B parameters", r["parameters"])
    short = q4["contexts"][0]
    check(short["where"] == "disk" and 0.08 < short["tokens_per_s_best"] < 0.11, "with 24 GB and 1 GB/s: about 11 s a token", short)
    by_hand = short["disk_read_bytes_per_token"] / 1e9
    check(abs(short["tokens_per_s_best"] * by_hand - 1) < 0.001, "the slower of memory and disk decides", short)
    check(types["BF16"]["contexts"][0]["where"] == "disk too small", "1.3 TB do not fit on 1 TB", types["BF16"]["contexts"][0]["where"])
    rc, r, _, _ = run("plan", "--preset", "r1-671", "--quick", "--json")
    check(rc == 2 and "did you mean r1-671b?" in r["error"], "an unknown preset: the nearest name", rc, r)


def presets():
    for name, params in (("r1-zero", 671.0), ("r1-0528", 671.0), ("0528-qwen3-8b", 8.19), ("distill-qwen-1.5b", 1.777), ("distill-qwen-7b", 7.616),
                         ("distill-qwen-14b", 14.77), ("distill-qwen-32b", 32.76), ("distill-llama-8b", 8.03), ("distill-llama-70b", 70.55)):
        rc, r, _, _ = run("plan", "--preset", name, "--type", "Q4_K", "--ctx", "4096", "--quick", "--json")
        check(rc == 0 and abs(r["parameters"] / 1e9 / params - 1) < 0.002 and len(r["types"]) == 1, "%s: %gB parameters" % (name, params),
              rc, r.get("error"), r.get("parameters"))


def main():
    folder = tempfile.mkdtemp(prefix="aha-whole-")
    try:
        if subprocess.run([MAKE, "check", folder], stderr=subprocess.DEVNULL).returncode:
            check(True, "files of the whole size # skip this file system has no holes")
        else:
            files(folder)
        plans()
        presets()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("1..%d" % len(results))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
