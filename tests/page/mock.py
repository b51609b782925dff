"""A server that answers as the test wants: the page's files and headers are those of a real `aha serve`, passed on; the answers
of /v1/chat/completions are made up here, chosen by words of the last question."""
import http.server
import json
import threading
import time
import urllib.request

PUZZLE_THINKING = "8 + 13 = 21, 21 + 2 = 23: no.\n8 * 2 = 16, 16 + 13 = 29: yes.\n"
MARKDOWN = r"""## The sum of the first $n$ numbers

Write the sum **twice**, once in each direction:

\[ 2S = \underbrace{(n+1) + (n+1) + \dots + (n+1)}_{n\ \text{times}} = n(n+1) \]

so that $S = \frac{n(n+1)}{2}$. For $n = 100$ this is \(\boxed{5050}\), and $\vec{v}$, $\sqrt{x^2+1}$ are drawn too. It costs $5, not $10, and 2*3*4 = 24.

1. Pair the first number with the last.
2. Count the pairs: `n / 2` of them.

| n | sum |
|--:|----:|
| 10 | 55 |
| 100 | 5050 |

```python
def total(n):
    # the sum of 1..n, by Gauss
    return n * (n + 1) // 2

print(total(100))  # 5050
```

> A check: [the article](https://example.org/gauss?a=1&b=2) has the story.
"""


def pieces(text, n=4):
    return [text[i:i + n] for i in range(0, len(text), n)]


class Mock:
    """answers: {word in the question: function(handler, body) or (thinking, answer)}"""

    def __init__(self, real, answers=None):
        self.real = real  # "http://127.0.0.1:PORT"
        self.answers = answers or {}
        self.bodies, self.paths, self.key, self.busy, self.gone = [], [], None, 0, 0
        self.model = "aha-tiny"
        self.pause_s = 0.004
        self.models_s = 0
        self.change = (None, b"", b"")  # (path, old, new) in one of the page's files
        mock = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                mock.paths.append(self.path)
                if self.path == "/v1/models":
                    mock.get_models(self)
                else:
                    mock.pass_on(self)

            def do_POST(self):
                mock.paths.append(self.path)
                mock.complete(self)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # a client that went

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    # ---- answers ----
    def pass_on(self, h):
        try:
            with urllib.request.urlopen(self.real + h.path, timeout=10) as r:
                status, headers, body = r.status, r.headers, r.read()
        except urllib.error.HTTPError as e:
            status, headers, body = e.code, e.headers, e.read()
        if self.change[0] == h.path:
            assert self.change[1] in body
            body = body.replace(self.change[1], self.change[2])
        h.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "content-length", "date", "transfer-encoding"):
                h.send_header(name, value)
        h.send_header("Content-Length", str(len(body)))
        h.end_headers()
        h.wfile.write(body)

    def json(self, h, status, body, **headers):
        data = json.dumps(body).encode()
        h.send_response_only(status)
        h.send_header("Content-Type", "application/json")
        h.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            h.send_header(name.replace("_", "-"), value)
        h.end_headers()
        h.wfile.write(data)

    def refuse(self, h, status, text, **headers):
        self.json(h, status, {"error": {"message": text, "type": "error", "code": None, "param": None}}, **headers)

    def wrong_key(self, h):
        if self.key is None or h.headers.get("Authorization") == "Bearer " + self.key:
            return False
        self.refuse(h, 401, "no such key")
        return True

    def get_models(self, h):
        time.sleep(self.models_s)
        if not self.wrong_key(h):
            self.json(h, 200, {"object": "list", "data": [{"id": self.model, "object": "model", "aha": {"parameters": 1631440, "context": 1024}}]})

    def complete(self, h):
        body = json.loads(h.rfile.read(int(h.headers["Content-Length"])))
        if self.wrong_key(h):
            return
        self.bodies.append(body)
        if self.busy > 0:
            self.busy -= 1
            self.refuse(h, 503, "8 requests wait already", Retry_After="2")
            return
        question = body["messages"][-1]["content"]
        for word, answer in self.answers.items():
            if word in question:
                break
        else:
            answer = (PUZZLE_THINKING, "(8*2)+13")
        try:
            if callable(answer):
                answer(self, h, body)
            else:
                self.stream(h, *answer)
        except (BrokenPipeError, ConnectionResetError):
            self.gone += 1

    def head(self, h):
        h.close_connection = True
        h.send_response_only(200)
        h.send_header("Content-Type", "text/event-stream; charset=utf-8")
        h.send_header("Connection", "close")
        h.end_headers()

    def event(self, h, data):
        h.wfile.write(b"data: " + (data if isinstance(data, str) else json.dumps(data)).encode() + b"\n\n")

    def delta(self, h, finish=None, **delta):
        self.event(h, {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None})

    def stream(self, h, thinking, answer, finish="stop", pause_s=None):
        pause_s = self.pause_s if pause_s is None else pause_s
        self.head(h)
        self.delta(h, role="assistant", content="")
        for p in pieces(thinking):
            self.delta(h, content=None, reasoning_content=p)
            time.sleep(pause_s)
        for p in pieces(answer):
            self.delta(h, content=p)
            time.sleep(pause_s)
        self.delta(h, finish=finish)
        n_think, n = len(pieces(thinking)), len(pieces(thinking)) + len(pieces(answer))
        self.event(h, {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": n, "total_tokens": 12 + n,
                                               "completion_tokens_details": {"reasoning_tokens": n_think}}})
        self.event(h, "[DONE]")
