#!/usr/bin/env python3
"""The chat page as aha serve sends it: its headers, every file that it names, and that nothing in it leads to another host.
tools/test-page has the page in a browser.  Prints TAP; standard library only."""
import gzip
import http.client
import os
import re
import subprocess
import urllib.parse

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
results = []


def report(ok, what, why=""):
    results.append(bool(ok))
    print(f"{'ok' if ok else 'not ok'} {len(results)} - {what}", flush=True)
    if not ok and why:
        print("# " + str(why).strip().replace("\n", "\n# "))


def get(path, method="GET", **headers):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        c.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        r = c.getresponse()
        return r.status, r.headers, r.read()
    finally:
        c.close()


def names_in(path, text):
    """The addresses that a file of ours refers to, as paths of the server."""
    found = re.findall(r'(?:href|src)="([^"#]+)"', text) if path.endswith((".html", "/")) else []
    if path.endswith(".js") and "/lib/" not in path:  # modules import beside them; other addresses are the page's
        found += re.findall(r'(?:from|import\()\s*"([^"]+)"', text) + re.findall(r'^import "([^"]+)"', text, re.M)
        found += ["/" + n for n in re.findall(r'"(page/[^"]+)"', text)]
    if path.endswith(".css"):
        found += [u for u in re.findall(r"url\(['\"]?([^'\")]+)", text) if u.endswith((".woff2", ".css", ".svg", ".png"))]
    return [urllib.parse.urljoin(path, u) for u in found]


def walk():
    """Every file that can be reached from /: {path: (type, bytes)}, and what went wrong."""
    seen, todo, wrong = {}, ["/"], []
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        if not path.startswith("/") or path.startswith("//"):
            wrong.append("another host: " + path)
            continue
        status, headers, body = get(path)
        seen[path] = (headers.get("Content-Type", ""), body)
        if status != 200:
            wrong.append(f"{path}: {status}")
        elif headers.get("Content-Type", "").startswith("text/"):
            todo += names_in(path, body.decode())
    return seen, wrong


def policy():
    status, headers, body = get("/")
    csp = dict((d.split(None, 1) + [""])[:2] for d in headers["Content-Security-Policy"].split("; "))
    want = {"default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "connect-src": "'self'", "font-src": "'self'", "base-uri": "'none'",
            "form-action": "'none'", "frame-ancestors": "'none'", "img-src": "'self' data:"}
    report(status == 200 and all(csp.get(k) == v for k, v in want.items()) and "unsafe" not in str(csp), "a policy that lets nothing in from outside", csp)
    report(headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer" and headers["Content-Type"] == "text/html; charset=utf-8"
           and headers["Cross-Origin-Opener-Policy"] == "same-origin" and headers.get("Access-Control-Allow-Origin") is None, "the other headers", headers)
    inline = re.findall(r"<script(?![^>]*\ssrc=)[^>]*>|<style|\son\w+=|\sstyle=|javascript:", body.decode())
    report(not inline, "no script and no style stands in the page itself", inline)


def files():
    seen, wrong = walk()
    report(not wrong, "every file that the page names is there", "\n".join(wrong))
    # ours are all of web/, and all of them are used; of the libraries, those that modules load
    ours = {"/" if n == "index.html" else "/page/" + n for n in os.listdir("web")}
    report(ours <= set(seen), "every file of web/ is in the page", ours - set(seen))
    libs = {"/page/lib/" + n for n in ("marked.esm.js", "purify.es.js", "katex.min.js", "katex.min.css", "highlight.min.js")}
    fonts = [p for p in seen if p.endswith(".woff2")]
    report(libs <= set(seen) and len(fonts) == 20 and all(seen[p][1][:4] == b"wOF2" for p in fonts), "libraries and fonts", (libs - set(seen), fonts))
    foreign = [(p, u) for p, (t, body) in seen.items() if p in ours and t.startswith(("text/", "image/"))
               for u in re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`]*", re.sub(r"(?m)^\s*//.*$|^.*\s// .*$|/\*.*?\*/", "", body.decode(), flags=re.S)) if "www.w3.org" not in u]
    report(not foreign, "nothing of ours names another host", foreign)
    sheet = seen["/page/lib/katex.min.css"][1].decode()
    report(not re.search(r"@import|url\(\s*['\"]?(?:https?:)?//", sheet), "KaTeX's style sheet loads from here alone")
    kinds = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
    odd = [(p, t) for p, (t, _) in seen.items() if kinds.get(os.path.splitext(p)[1], t) != t]
    report(not odd, "each file has its type", odd)
    status, _, text = get("/page/licenses.txt")
    report(status == 200 and all(w in text.decode() for w in ("==== libjs-katex", "==== node-marked", "==== node-dompurify", "==== libjs-highlight.js")), "the libraries' licences are there")


def coding():
    _, plain, body = get("/page/main.js")
    status, headers, packed = get("/page/main.js", Accept_Encoding="br, gzip;q=0.8")
    report(status == 200 and headers["Content-Encoding"] == "gzip" and gzip.decompress(packed) == body and headers["Vary"] == "Accept-Encoding", "compressed for who takes it", headers)
    report(plain["Content-Encoding"] is None and body.startswith(b"//"), "plain for who does not")
    report(all(get("/page/main.js", Accept_Encoding=a)[1]["Content-Encoding"] is None for a in ("gzip;q=0", "gzip; q=0.000, br", "br", "", "identity"))
           and all(get("/page/main.js", Accept_Encoding=a)[1]["Content-Encoding"] == "gzip" for a in ("gzip", "gzip ;q=1", "br,gzip", "deflate, gzip;q=0.01")), "q=0 is a no")
    report(get("/page/lib/fonts/KaTeX_Main-Regular.woff2", Accept_Encoding="gzip")[1]["Content-Encoding"] is None, "fonts are compressed as they are")
    report(plain["ETag"] and headers["ETag"] and plain["ETag"] != headers["ETag"] and "no-cache" in plain["Cache-Control"], "each form has its tag")
    status, again, body = get("/page/main.js", If_None_Match=plain["ETag"])
    report(status == 304 and body == b"" and again["ETag"] == plain["ETag"] and "Content-Security-Policy" in again, "what is known is not sent again", (status, again))
    report(get("/page/main.js", If_None_Match='"other", ' + plain["ETag"])[0] == 304 and get("/page/main.js", If_None_Match='"other"')[0] == 200, "another tag is sent anew")
    status, headers, body = get("/", "HEAD")
    report(status == 200 and body == b"" and int(headers["Content-Length"]) > 1000, "HEAD sends no body", (status, headers))
    report(all(get(p)[0] == 404 for p in ("/page/none.js", "/page/", "/page/../index.html", "/page/%2e%2e/index.html", "//page/main.js", "/page/main.js/")), "no other path is a file")
    report(get("/", "POST")[0] in (405, 411, 415) and get("/page/main.js", "DELETE")[0] == 405, "files are only read")


p = subprocess.Popen([os.environ.get("CLI_BIN", "./aha"), "serve", "--port", "0"], stderr=subprocess.PIPE, text=True)
try:
    port = None
    for line in p.stderr:
        m = re.search(r"http://[\w.]+:(\d+)", line)
        if m:
            port = int(m.group(1))
            break
    if port is None:
        report(False, "aha serve starts")
    elif b"The chat page is not in this program" in get("/")[2]:
        print("ok 1 - the page is left out of this program, and / says so # skip its libraries were absent")
    else:
        policy()
        files()
        coding()
finally:
    p.terminate()
    p.wait(300)
print(f"1..{len(results) or 1}")
raise SystemExit(0 if all(results) else 1)
