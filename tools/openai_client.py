#!/usr/bin/env python3
"""The openai package against a running aha serve, as people use it: sync, async, streams, tools, errors, tries again after 429 and 503.

usage: tools/openai_client.py [AHA]      ./aha; starts servers of its own with the built-in model.  Exit 1 when something differs."""
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

import openai

BIN = sys.argv[1] if len(sys.argv) > 1 else "./aha"
PUZZLE = [{"role": "user", "content": "Using 8, 13 and 2, make 29."}]
MODEL = "aha-tiny"
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]


def check(ok, *what):
    if not ok:
        raise AssertionError(what)


class Server:
    def __init__(self, *args):
        self.p = subprocess.Popen([BIN, "serve", "--port", "0", *args], stderr=subprocess.PIPE, text=True)
        for line in self.p.stderr:
            m = re.search(r"at http://\S+:(\d+)$", line)
            if m:
                self.url = f"http://127.0.0.1:{m.group(1)}/v1"
                return
        raise AssertionError("no server")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.terminate()
        check(self.p.wait(60) == 0)
        self.p.stderr.close()

    def client(self, key="none", **kw):
        return openai.OpenAI(base_url=self.url, api_key=key, **kw)


def refused(kind, call):
    try:
        call()
    except kind as e:
        return e
    raise AssertionError(f"no {kind.__name__}")


def sync(s):
    c = s.client()
    check([m.id for m in c.models.list()] == [MODEL] and c.models.retrieve(MODEL).id == MODEL)
    r = c.chat.completions.create(model=MODEL, messages=PUZZLE, temperature=0, logprobs=True, top_logprobs=2)
    m = r.choices[0].message
    check(m.content and m.reasoning_content and r.choices[0].finish_reason == "stop" and r.usage.completion_tokens_details.reasoning_tokens > 0)
    check(r.choices[0].logprobs.content[0].top_logprobs[0].token == r.choices[0].logprobs.content[0].token)
    thought, text, usage = "", "", None
    for k in c.chat.completions.create(model=MODEL, messages=PUZZLE, temperature=0, stream=True, stream_options={"include_usage": True}):
        usage = k.usage or usage
        for x in k.choices:
            thought += getattr(x.delta, "reasoning_content", None) or ""
            text += x.delta.content or ""
    check((thought, text, usage.completion_tokens) == (m.reasoning_content, m.content, r.usage.completion_tokens))
    with c.chat.completions.stream(model=MODEL, messages=PUZZLE, temperature=0) as stream:
        for _ in stream:
            pass
        check(stream.get_final_completion().choices[0].message.content == m.content)
    check(c.chat.completions.create(model=MODEL, messages=PUZZLE, temperature=0, extra_body={"thinking_budget": 0}).usage.completion_tokens < 20)
    check(c.completions.create(model=MODEL, prompt="Using 8, 13 and 2, make 29.", max_tokens=5, echo=True, logprobs=1).choices[0].text.startswith("Using 8"))
    check(len("".join(k.choices[0].text for k in c.completions.create(model=MODEL, prompt=[[0, 20, 30]], max_tokens=9, stream=True))) > 0)


def tools(s):
    c = s.client()
    named = {"type": "function", "function": {"name": "get_weather"}}
    r = c.chat.completions.create(model=MODEL, messages=PUZZLE, tools=TOOLS, tool_choice=named, max_tokens=60, temperature=0, reasoning_effort="low")
    call = r.choices[0].message.tool_calls[0]
    check(call.function.name == "get_weather" and call.type == "function" and call.id)
    streamed = [t for k in c.chat.completions.create(model=MODEL, messages=PUZZLE, tools=TOOLS, tool_choice=named, max_tokens=60, temperature=0, stream=True, reasoning_effort="low")
                for x in k.choices for t in x.delta.tool_calls or []]
    check(streamed[0].function.name == "get_weather" and streamed[0].function.arguments == call.function.arguments and streamed[0].index == 0)
    back = PUZZLE + [r.choices[0].message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    check(c.chat.completions.create(model=MODEL, messages=back, tools=TOOLS, max_tokens=3).usage.completion_tokens == 3)


def errors(s):
    c = s.client(max_retries=0)
    e = refused(openai.BadRequestError, lambda: c.chat.completions.create(model=MODEL, messages=PUZZLE, temperature=3))
    check(e.param == "temperature" and e.code == "invalid_value" and e.type == "invalid_request_error" and e.request_id.startswith("req-"), e)
    refused(openai.NotFoundError, lambda: c.chat.completions.create(model="gpt-9", messages=PUZZLE))
    refused(openai.BadRequestError, lambda: c.chat.completions.create(model=MODEL, messages=PUZZLE, response_format={"type": "json_object"}))
    refused(openai.BadRequestError, lambda: c.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x" * 100000}]))
    e = refused(openai.APIStatusError, lambda: s.client(key="k" * 60000, max_retries=0).models.list())  # answered by the HTTP library, in HTML
    check(e.status_code == 431, e)


async def at_once(s):
    c = openai.AsyncOpenAI(base_url=s.url, api_key="none")

    async def one(i):
        text = ""
        async for k in await c.chat.completions.create(model=MODEL, messages=PUZZLE, seed=i % 4, max_tokens=40, stream=True):
            text += "".join((x.delta.content or "") + (getattr(x.delta, "reasoning", None) or "") for x in k.choices)
        return text

    got = await asyncio.gather(*(one(i) for i in range(24)))
    check(all(got[i] == got[i % 4] for i in range(24)) and len(set(got)) > 1)
    stream = await c.chat.completions.create(model=MODEL, messages=PUZZLE, stream=True)
    async for _ in stream:
        break
    await stream.close()
    await c.close()


def again_after_503():
    """the client waits as long as Retry-After says, and is served then"""
    with Server("--parallel", "1", "--queue", "0") as s:
        c, held = s.client(max_retries=8), threading.Event()

        def hold():
            for _ in c.completions.create(model=MODEL, prompt=[5, 6, 7], max_tokens=200, stream=True,
                                                       extra_body={"logit_bias": {"1": -100}, "repetition_stop": 0}):
                held.set()

        t = threading.Thread(target=hold)
        t.start()
        held.wait(30)
        refused(openai.InternalServerError, lambda: s.client(max_retries=0).chat.completions.create(model=MODEL, messages=PUZZLE, max_tokens=1))
        check(c.chat.completions.create(model=MODEL, messages=PUZZLE, max_tokens=1).usage.completion_tokens == 1)
        t.join()


def keys_and_429():
    with tempfile.TemporaryDirectory() as d:
        db = os.path.join(d, "keys.db")
        key = subprocess.run([BIN, "keys", "add", "one", "--db", db, "--rate", "30/min"], capture_output=True, text=True, check=True).stdout.split()[-1]
        with Server("--db", db) as s:
            refused(openai.AuthenticationError, lambda: s.client("aha-wrong", max_retries=0).models.list())
            few, many = s.client(key, max_retries=0), s.client(key, max_retries=6)
            ask = dict(model=MODEL, messages=PUZZLE, max_tokens=1)
            for _ in range(31):
                try:
                    few.chat.completions.create(**ask)
                except openai.RateLimitError as e:
                    check(1 <= int(e.response.headers["Retry-After"]) <= 60)
                    break
            else:
                raise AssertionError("no 429 after 31 requests")
            t0 = time.monotonic()
            check(many.chat.completions.create(**ask).usage.completion_tokens == 1 and time.monotonic() - t0 > 0.5)


def main():
    with tempfile.TemporaryDirectory() as d:
        os.environ["AHA_DB"] = os.path.join(d, "aha.db")
        with Server() as s:
            sync(s)
            tools(s)
            errors(s)
            asyncio.run(at_once(s))
        again_after_503()
        keys_and_429()
    print(json.dumps({"openai": openai.__version__, "ok": True}))


if __name__ == "__main__":
    main()
