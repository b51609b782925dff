#!/usr/bin/env python3
"""aha serve: the API's fields and forms, field by field.  Prints TAP."""
import json
import sys

from servelib import PUZZLE, check, joined, main, serve_test

SHARED = {}


@serve_test()
def chat(s):
    """an answer with its thinking apart, at once and as a stream: the same for the same seed"""
    r = s.chat(seed=7)
    m, u = r["choices"][0]["message"], r["usage"]
    check(r["object"] == "chat.completion" and r["id"].startswith("chatcmpl-") and r["model"] == "aha-tiny", r)
    check(m["role"] == "assistant" and "=" in m["reasoning_content"] and m["reasoning"] == m["reasoning_content"], m)
    check(m["content"] and "think" not in m["content"], m)
    check(r["choices"][0]["finish_reason"] == "stop" and r["choices"][0]["index"] == 0, r)
    check(u["prompt_tokens"] == 19 and u["total_tokens"] == u["prompt_tokens"] + u["completion_tokens"], u)
    check(0 < u["completion_tokens_details"]["reasoning_tokens"] < u["completion_tokens"], u)
    check(u["prompt_cache_hit_tokens"] + u["prompt_cache_miss_tokens"] == u["prompt_tokens"], u)
    k = s.stream(seed=7, stream_options={"include_usage": True})
    check(joined(k, "content") == m["content"] and joined(k, "reasoning_content") == m["reasoning_content"], k)
    check(k[0]["choices"][0]["delta"]["role"] == "assistant", k[0])
    check(all(c["object"] == "chat.completion.chunk" and c["id"] == k[0]["id"] for c in k))
    check(k[-1]["choices"] == [] and k[-1]["usage"]["completion_tokens"] == u["completion_tokens"], k[-1])
    check([c["choices"][0]["finish_reason"] for c in k[:-1]] == [None] * (len(k) - 2) + ["stop"])
    check(all(c["usage"] is None for c in k[:-1]))
    check("usage" not in s.stream(seed=7)[0])


@serve_test("--name", "tiny,aha-tiny")
def small_things(s):
    """models, health, metrics, names, request ids, what is not there"""
    status, headers, text = s.get("/v1/models")
    check(status == 200 and [m["id"] for m in json.loads(text)["data"]] == ["tiny", "aha-tiny"], text)
    check(headers["X-Request-Id"].startswith("req-"))
    check(json.loads(s.get("/v1/models/tiny")[2])["object"] == "model")
    check(s.get("/v1/models/none")[0] == 404 and s.get("/v1/models/")[0] == 404)
    check(s.json("/v1/chat/completions", {"model": "tiny", "messages": PUZZLE, "max_tokens": 3})["model"] == "tiny")
    check(s.json("/v1/chat/completions", {"model": "gpt-9", "messages": PUZZLE}, 404)["error"]["code"] == "model_not_found")
    check(s.health() == (200, {"status": "ok", "requests": 0, "sequences": 0, "slots": 64, "queue": 256}), s.health())
    check("aha_first_token_seconds_count 1\n" in s.get("/metrics")[2])
    check(s.get("/v1/nothing")[0] == 404 and s.get("//v1/models")[0] == 404)
    check(s.get("/v1/chat/completions")[0] == 405 and s.ask("POST", "/v1/models", {})[0] == 405)
    check(s.ask("HEAD", "/health")[0] == 200)


@serve_test()
def wrong_fields(s):
    """a field that is wrong, unknown or not supported is a 400 that names it"""
    for field, values in {"temperature": [-1, 2.5, 1e308, "1", [1]], "top_p": [-0.1, 1.5], "n": [0, -1, 10**6, 2**31, 2**63, "2", 1.5],
                          "max_tokens": [0, -1, 2**31, 2**63, 1e308, "9"], "seed": [2**63, 1.5, "x"], "stream": [1, "true"],
                          "top_k": [2**31, "1"], "messages": [[], "x", None], "model": [None, 3]}.items():
        for v in values:
            r = s.chat(400, **{field: v}) if field != "messages" else s.json("/v1/chat/completions", {"model": "aha-tiny", "messages": v}, 400)
            check(r["error"]["param"] == field and field in r["error"]["message"], field, v, r)
    r = s.chat(400, temprature=1)
    check(r["error"]["param"] == "temprature" and "did you mean temperature" in r["error"]["message"], r)
    body = json.dumps({"model": "aha-tiny", "messages": PUZZLE})
    for bad in ("NaN", "Infinity", "1e999", "99999999999999999999", "01", "tru"):
        r = s.json("/v1/chat/completions", body[:-1] + f', "temperature": {bad}, "n": 1}}', 400)
        check(r["error"]["param"] == "temperature", bad, r)
    for bad in ("", "[]", "null", "{", "{}", body[:-1], body + "x", '{"model": "aha-tiny", "model": "aha-tiny"}'):
        r = s.json("/v1/chat/completions", bad, 400)
        check(r["error"]["message"], bad, r)
    check(s.chat(temperature=None, n=None, max_tokens=3, stream=None, user="me", metadata={"a": "b"}, store=True)["choices"])


if __name__ == "__main__":
    sys.exit(main())
