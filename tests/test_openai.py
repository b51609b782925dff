#!/usr/bin/env python3
"""The openai package from PyPI against aha serve, as people use it: sync, async, streams, tools, errors, tries again after 429 and 503.
Prints TAP; skipped, with the reason, where the package cannot be had.  It is tools/openai-venv's, outside of the repository."""
import asyncio
import os
import subprocess
import sys
import tempfile
import threading

from servelib import BIN, PUZZLE, Server, at_once, check, main, once, serve_test, test

try:
    VENV = subprocess.run(["tools/openai-venv"], capture_output=True, text=True, check=False)
except OSError as why:
    VENV = subprocess.CompletedProcess([], 1, "", str(why))
PYTHON = VENV.stdout.strip()
if VENV.returncode:
    print("ok 1 - the openai package # skip", (VENV.stderr.strip() or "no tools/openai-venv").splitlines()[-1])
    sys.exit(0)
if sys.prefix != os.path.dirname(os.path.dirname(PYTHON)):
    os.execv(PYTHON, [PYTHON, *sys.argv])

import openai  # pylint: disable=wrong-import-position

MODEL = "aha-tiny"
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]


def client(s, key="none", **kw):
    return openai.OpenAI(base_url=f"http://127.0.0.1:{s.port}/v1", api_key=key, **kw)


def refused(kind, call):
    try:
        call()
    except kind as e:
        return e
    raise AssertionError(f"no {kind.__name__}")


@serve_test()
def sync(s):
    """models, chats and completions, at once and as streams: the same answers; log-probabilities, a budget for thinking, echo"""
    c = client(s)
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


@serve_test()
def tools(s):
    """a call of a tool, streamed or not, and its result"""
    c = client(s)
    named = {"type": "function", "function": {"name": "get_weather"}}
    r = c.chat.completions.create(model=MODEL, messages=PUZZLE, tools=TOOLS, tool_choice=named, max_tokens=60, temperature=0, reasoning_effort="low")
    call = r.choices[0].message.tool_calls[0]
    check(call.function.name == "get_weather" and call.type == "function" and call.id)
    streamed = [t for k in c.chat.completions.create(model=MODEL, messages=PUZZLE, tools=TOOLS, tool_choice=named, max_tokens=60, temperature=0, stream=True, reasoning_effort="low")
                for x in k.choices for t in x.delta.tool_calls or []]
    check(streamed[0].function.name == "get_weather" and streamed[0].function.arguments == call.function.arguments and streamed[0].index == 0)
    back = PUZZLE + [r.choices[0].message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    check(c.chat.completions.create(model=MODEL, messages=back, tools=TOOLS, max_tokens=3).usage.completion_tokens == 3)


@serve_test()
def errors(s):
    """each refusal is the exception that OpenAI's own would be"""
    c = client(s, max_retries=0)
    e = refused(openai.BadRequestError, lambda: c.chat.completions.create(model=MODEL, messages=PUZZLE, temperature=3))
    check(e.param == "temperature" and e.code == "invalid_value" and e.type == "invalid_request_error" and e.request_id.startswith("req-"), e)
    refused(openai.NotFoundError, lambda: c.chat.completions.create(model="gpt-9", messages=PUZZLE))
    refused(openai.BadRequestError, lambda: c.chat.completions.create(model=MODEL, messages=PUZZLE, response_format={"type": "json_object"}))
    refused(openai.BadRequestError, lambda: c.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x" * 100000}]))
    e = refused(openai.APIStatusError, lambda: client(s, key="k" * 60000, max_retries=0).models.list())  # answered by the HTTP library, in HTML
    check(e.status_code == 431, e)


async def many(s):
    c = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{s.port}/v1", api_key="none")

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


@serve_test()
def asynchronous(s):
    """24 streams at once in one loop; one that is closed on the way"""
    asyncio.run(many(s))
    s.idle()


def retries(call):
    """how often the client tried again before it was answered"""
    r = call()
    check(r.parse().usage.completion_tokens == 1)
    return r.retries_taken


@serve_test("--parallel", "1", "--queue", "0")
def again_after_503(s):
    """who finds the server full waits as long as Retry-After says, and is served then"""
    ask = dict(model=MODEL, messages=PUZZLE, max_tokens=1)

    def full():
        held = client(s).completions.create(model=MODEL, prompt=[5, 6, 7], max_tokens=1900, stream=True, extra_body={"logit_bias": {"1": -100, "20": 100}, "repetition_stop": 0})
        next(iter(held))
        refused(openai.InternalServerError, lambda: client(s, max_retries=0).chat.completions.create(**ask))
        end = threading.Timer(0.5, held.close)
        end.start()
        n = retries(lambda: client(s, max_retries=8).chat.completions.with_raw_response.create(**ask))
        end.join()
        return n > 0, n

    once(full)


@test
def keys_and_429():
    """a wrong key; a key that asks too often is told so, and waits as long as Retry-After says"""
    with tempfile.TemporaryDirectory() as d:
        db = os.path.join(d, "keys.db")
        key = subprocess.run([BIN, "keys", "add", "one", "--db", db, "--rate", "60/min"], capture_output=True, text=True, check=True).stdout.split()[-1]
        ask = dict(model=MODEL, messages=PUZZLE, max_tokens=1)
        with Server("--db", db) as s:
            refused(openai.AuthenticationError, lambda: client(s, "aha-wrong", max_retries=0).models.list())
            few, patient = client(s, key, max_retries=0), client(s, key, max_retries=8)

            def often():
                try:
                    few.chat.completions.create(**ask)
                    return None
                except openai.RateLimitError as e:
                    check(1 <= int(e.response.headers["Retry-After"]) <= 60)
                    return e

            once(lambda: (any(at_once([often] * 70)),))
            once(lambda: (sum(at_once([lambda: retries(lambda: patient.chat.completions.with_raw_response.create(**ask))] * 4)) > 0,))


if __name__ == "__main__":
    sys.exit(main())
