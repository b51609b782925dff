#!/usr/bin/env python3
"""aha serve: the API's fields and forms, field by field.  Prints TAP."""
import json
import sys

from servelib import PUZZLE, at_once, check, joined, main, serve_test

TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "d", "parameters": {"type": "object", "properties": {"x": {"default": 0.1}}}}},
         {"type": "function", "function": {"name": "other"}}]


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
    no_number = ("-1e308", "1e308", "NaN", "Infinity", "-Infinity", "1e400", str(2**31), str(2**63), str(-2**63 - 1), '"1"', "[]", "{}", "true")
    for path, what in {"/v1/chat/completions": '"messages": [{"role": "user", "content": "a"}]', "/v1/completions": '"prompt": "a"'}.items():
        chat_only = path.startswith("/v1/chat")
        for field in ("temperature", "top_p", "min_p", "top_k", "presence_penalty", "frequency_penalty", "repetition_penalty", "n", "max_tokens", "seed", "repetition_stop",
                      *(("max_completion_tokens", "top_logprobs", "thinking_budget") if chat_only else ("logprobs", "best_of"))):
            rest = "" if "max_" in field else ', "max_tokens": 1'
            rest += ', "logprobs": true' if field == "top_logprobs" else ""
            for v in no_number:
                want = 200 if field == "seed" and v == str(2**31) else 400  # of 64 bits
                r = s.json(path, f'{{"model": "aha-tiny", {what}{rest}, "{field}": {v}}}', want)
                check(want == 200 or (r["error"]["param"] == field and field in r["error"]["message"]), path, field, v, r)
            s.json(path, f'{{"model": "aha-tiny", {what}{rest}, "{field}": null}}')
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


@serve_test()
def sampling(s):
    """seeds, temperature 0, bias, penalties, length, several answers: each does what it says"""
    one = s.chat(seed=3)["choices"][0]["message"]
    check(s.chat(seed=3)["choices"][0]["message"] == one)
    many = s.chat(seed=3, n=4)["choices"]
    check([c["index"] for c in many] == [0, 1, 2, 3] and many[0]["message"] == one)
    check(len({json.dumps(c["message"]) for c in many}) > 1)
    k = s.stream(seed=3, n=4)
    for c in many:
        check(joined(k, "content", c["index"]) == c["message"]["content"] and joined(k, "reasoning", c["index"]) == c["message"]["reasoning"])
    check(len({json.dumps(s.chat(temperature=0)["choices"][0]["message"]) for _ in range(3)}) == 1)
    check(s.chat(temperature=0)["choices"][0]["message"] == s.chat(top_k=1)["choices"][0]["message"] == s.chat(top_p=0)["choices"][0]["message"])
    r = s.chat(max_tokens=5)
    check(r["choices"][0]["finish_reason"] == "length" and r["usage"]["completion_tokens"] == 5, r)
    check(s.chat(max_completion_tokens=5)["usage"]["completion_tokens"] == 5)
    check(s.chat(400, max_completion_tokens=5, max_tokens=6)["error"]["param"] == "max_tokens")
    eight = s.json("/tokenize", {"prompt": "8"})["tokens"][0]
    check("8" not in s.chat(temperature=0, logit_bias={str(eight): -100})["choices"][0]["message"]["content"])
    r = s.json("/v1/completions", {"model": "aha-tiny", "prompt": "8", "max_tokens": 20, "logit_bias": {str(eight): 100}, "temperature": 0})
    check(r["choices"][0]["text"] == "8" * 20, r)
    r = s.json("/v1/completions", {"model": "aha-tiny", "prompt": "8", "max_tokens": 900, "logit_bias": {str(eight): 100}, "temperature": 0})
    check(r["choices"][0]["finish_reason"] == "length" and r["choices"][0]["stop_reason"] == "repetition" and r["usage"]["completion_tokens"] < 600, r["usage"])
    body = {"model": "aha-tiny", "prompt": "8", "max_tokens": 40, "temperature": 0, "repetition_stop": 0, "logit_bias": {str(eight): 5}}
    plain = s.json("/v1/completions", body)["choices"][0]["text"]
    for field, v in {"presence_penalty": 2, "frequency_penalty": 2, "repetition_penalty": 3}.items():
        got = s.json("/v1/completions", {**body, field: v})["choices"][0]["text"]
        check(got != plain and got.count("8") < 40 == plain.count("8"), field, plain, got)


@serve_test()
def stops(s):
    """the answer ends before a stop text, streaming or not; thinking does not count"""
    whole = s.chat(temperature=0)["choices"][0]["message"]
    for stop in ("+", ["zzz", "2)"], ")+1"):
        r = s.chat(temperature=0, stop=stop)
        first = min(whole["content"].index(x) for x in ([stop] if isinstance(stop, str) else stop) if x in whole["content"])
        c = r["choices"][0]
        check(c["message"]["content"] == whole["content"][:first] and c["finish_reason"] == "stop", stop, c)
        check(c["stop_reason"] == (stop if isinstance(stop, str) else "2)"), c)
        check(c["message"]["reasoning_content"] == whole["reasoning_content"])
        k = s.stream(temperature=0, stop=stop, stream_options={"include_usage": True})
        check(joined(k, "content") == whole["content"][:first] and k[-1]["usage"]["completion_tokens"] == r["usage"]["completion_tokens"], k[-1])
        check(k[-2]["choices"][0]["finish_reason"] == "stop")
    for bad in ([], ["x"] * 65, "", ["a", 1], {"a": 1}, "x" * 1025):
        want = 200 if bad == [] else 400
        r = s.chat(want, stop=bad, max_tokens=1)
        check(want == 200 or r["error"]["param"] == "stop", r)


@serve_test()
def logprobs(s):
    """of each token, with the likeliest ones: the same in a stream, thinking and answer apart"""
    r = s.chat(temperature=0, logprobs=True, top_logprobs=3)
    lp = r["choices"][0]["logprobs"]
    check("".join(x["token"] for x in lp["content"]).strip() == r["choices"][0]["message"]["content"], lp["content"])
    for x in lp["content"] + lp["reasoning_content"]:
        check(x["logprob"] <= 0 and len(x["top_logprobs"]) == 3 and x["top_logprobs"][0]["logprob"] >= x["top_logprobs"][2]["logprob"], x)
        check(x["top_logprobs"][0]["token"] == x["token"] and bytes(x["bytes"]).decode() == x["token"], x)
    check(len(lp["content"]) + len(lp["reasoning_content"]) + 1 == r["usage"]["completion_tokens"])
    k = s.stream(temperature=0, logprobs=True, top_logprobs=3)
    for part in ("content", "reasoning_content"):
        check([x for c in k if c["choices"][0]["logprobs"] for x in c["choices"][0]["logprobs"][part]] == lp[part], part)
    check(s.chat(logprobs=True, max_tokens=2)["choices"][0]["logprobs"]["reasoning_content"][0]["top_logprobs"] == [])
    check(s.chat(400, top_logprobs=2)["error"]["param"] == "top_logprobs")


@serve_test()
def thinking(s):
    """effort and budget: off, short, as it is"""
    full = s.chat(temperature=0)
    check(full["usage"]["completion_tokens_details"]["reasoning_tokens"] > 60)
    for off in ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}, {"thinking_budget": 0}):
        r = s.chat(temperature=0, **off)
        check("reasoning_content" not in r["choices"][0]["message"] and r["choices"][0]["message"]["content"], off, r)
        check(r["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0)
    for short in ({"thinking_budget": 20}, {"thinking": {"type": "enabled", "budget_tokens": 20}}, {"reasoning_effort": "low", "max_tokens": 100}):
        r = s.chat(temperature=0, **short)
        check(15 <= r["usage"]["completion_tokens_details"]["reasoning_tokens"] <= 30, short, r["usage"])
        check(r["choices"][0]["message"]["content"], r)
    check(s.chat(temperature=0, reasoning_effort="max")["choices"][0]["message"] == full["choices"][0]["message"])
    for bad in ({"reasoning_effort": "loads"}, {"thinking": {"type": "maybe"}}, {"thinking": {"effort": 1}}, {"reasoning_effort": "low", "thinking_budget": 5}):
        check(s.chat(400, **bad)["error"]["param"], bad)


@serve_test()
def conversations(s):
    """parts, roles, prefixes, tools: what reaches the model, seen by its ids"""
    def ids(messages, **kw):
        return s.json("/tokenize", {"messages": messages, **kw})["tokens"]

    def text(messages, **kw):
        return s.json("/detokenize", {"tokens": ids(messages, **kw)})["prompt"]

    user = PUZZLE[0]
    check(ids([{"role": "user", "content": [{"type": "text", "text": "Using 8, 13"}, {"type": "text", "text": " and 2, make 29."}]}]) == ids(PUZZLE))
    check(ids([{"role": "developer", "content": "x"}, user]) == ids([{"role": "system", "content": "x"}, user]))
    old = [user, {"role": "assistant", "content": "a", "reasoning_content": "never shown again", "refusal": None}, user]
    check("never" not in text(old))
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": '{"x": 1.10}'}}]}
    t = text([user, call, {"role": "tool", "tool_call_id": "1", "content": "sunny"}], tools=TOOLS)
    check("get_weather" in t and '{"x": 1.10}' in t and "sunny" in t and "default" in t, t)
    check(text([user], tools=TOOLS, tool_choice="none") == text([user]))
    r = s.chat(messages=[user, {"role": "assistant", "content": "(8*2)+", "reasoning_content": "8*2=16: 16+13=29 yes", "prefix": True}], temperature=0)
    check(r["choices"][0]["message"]["content"] == "13" and "reasoning_content" not in r["choices"][0]["message"], r)
    r = s.chat(messages=[user, {"role": "assistant", "content": "", "reasoning_content": "8*2=16:", "prefix": True}], temperature=0)
    check("29" in r["choices"][0]["message"]["reasoning_content"], r)
    for i, bad in enumerate(({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, {"role": "robot", "content": "x"}, {"role": "user"},
                             {"role": "user", "content": 5}, {"role": "user", "content": "x", "tool_calls": []}, {"role": "user", "content": "x", "prefix": True},
                             {"role": "user", "content": "x", "colour": 1}, {"content": "x"}, "x", {"role": "assistant", "content": "x", "function_call": {}})):
        r = s.chat(400, messages=[user, bad])
        check(r["error"]["param"].startswith("messages[1]"), i, r)
    check(s.chat(400, messages=[{"role": "assistant", "content": "x", "prefix": True}, user])["error"]["param"] == "messages[0].prefix")


@serve_test()
def tools(s):
    """a call that is asked for by name comes back as one, streaming or not; what cannot be is refused"""
    named = {"type": "function", "function": {"name": "get_weather"}}
    end = s.json("/tokenize", {"messages": [PUZZLE[0], {"role": "assistant", "content": None, "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "q", "arguments": "8"}}]}]})["tokens"]
    fence = s.json("/tokenize", {"prompt": "`"})["tokens"][0]
    check(fence in end)
    with open("models/aha-tiny/tokenizer.json", encoding="utf-8") as f:  # </think> would end the call: the model knows no tools
        close = next(t["id"] for t in json.load(f)["added_tokens"] if t["content"] == "</think>")
    open_call = {"tools": TOOLS, "tool_choice": named, "max_tokens": 12, "temperature": 0, "logit_bias": {str(close): -100}, "thinking_budget": 0}
    r = s.chat(stop=None, **open_call)
    c = r["choices"][0]
    check(c["message"]["tool_calls"][0]["function"]["name"] == "get_weather" and c["message"]["content"] is None, c)
    check(c["message"]["tool_calls"][0]["id"].startswith("call_") and c["message"]["tool_calls"][0]["type"] == "function")
    k = s.stream(**open_call)
    calls = [t for x in k for y in x["choices"] for t in y["delta"].get("tool_calls", [])]
    check(calls[0]["index"] == 0 and calls[0]["function"] == c["message"]["tool_calls"][0]["function"], calls)
    check(k[-1]["choices"][0]["finish_reason"] == c["finish_reason"])
    for choice in (named, "required"):  # after thinking, that is to its budget, or to its end
        for more in ({"thinking_budget": 8}, {"logit_bias": {}, "max_tokens": 300}, {"max_tokens": 250}):
            r = s.chat(**{**open_call, "thinking_budget": None, "max_tokens": 60, "tool_choice": choice, **more})
            m, thought = r["choices"][0]["message"], r["usage"]["completion_tokens_details"]["reasoning_tokens"]
            check((m.get("reasoning_content") or "logit_bias" in more) and m["content"] is None, choice, more, r)
            check(m["tool_calls"][0]["function"]["name"] == "get_weather" or choice == "required", m)
            check(thought == 10 if "thinking_budget" in more else thought <= 4 * more["max_tokens"] // 5 + 2, r)
            k = s.stream(**{**open_call, "thinking_budget": None, "max_tokens": 60, "tool_choice": choice, **more})
            check(joined(k, "reasoning_content") == m.get("reasoning_content", "") and joined(k, "content") == "", k)
            check([t["function"] for x in k for y in x["choices"] for t in y["delta"].get("tool_calls", [])] == [t["function"] for t in m["tool_calls"]], k)
    for bad in ({"tools": "x"}, {"tools": [{"type": "function"}]}, {"tools": [1]}, {"tools": TOOLS, "tool_choice": "maybe"},
                {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "nobody"}}}, {"tool_choice": "required"},
                {"tools": [{"type": "custom", "custom": {"name": "x"}}]}):
        check(s.chat(400, **bad)["error"]["param"] in ("tools", "tool_choice"), bad)
    for field, v in {"response_format": {"type": "json_object"}, "audio": {"voice": "x"}, "modalities": ["audio"], "functions": [], "function_call": "auto",
                     "web_search_options": {}, "verbosity": "low"}.items():
        check(s.chat(400, **{field: v})["error"]["param"] == field, field)
    check(s.chat(response_format={"type": "text"}, modalities=["text"], max_tokens=1, parallel_tool_calls=True)["choices"])


@serve_test()
def completions(s):
    """texts, ids, lists; echo and log-probabilities; what is refused"""
    def ask(want=200, **f):
        return s.json("/v1/completions", {"model": "aha-tiny", **f}, want)

    text = "Using 8, 13 and 2, make 29."
    r = ask(prompt=text, temperature=0)
    check(r["object"] == "text_completion" and r["usage"]["completion_tokens"] == 16 and r["choices"][0]["finish_reason"] == "length", r)
    ids = s.json("/tokenize", {"prompt": text})["tokens"]
    check(ask(prompt=[0] + ids, temperature=0)["choices"][0]["text"] == r["choices"][0]["text"])
    both = ask(prompt=[text, "Using 1"], n=2, temperature=0, max_tokens=4)["choices"]
    check([c["index"] for c in both] == [0, 1, 2, 3] and both[0]["text"] == both[1]["text"] and both[2]["text"] == both[3]["text"])
    check([c["text"] for c in ask(prompt=[[0] + ids, ids], temperature=0, max_tokens=4)["choices"]][0] == both[0]["text"])
    e = ask(prompt=text, echo=True, logprobs=2, max_tokens=3, temperature=0)["choices"][0]
    check(e["text"].startswith(text) and "".join(e["logprobs"]["tokens"][:len(ids)]) == text, e)
    check(len(e["logprobs"]["tokens"]) == len(e["logprobs"]["token_logprobs"]) == len(e["logprobs"]["text_offset"]) == len(ids) + 3)
    check(all(text[o:].startswith(t) for o, t in zip(e["logprobs"]["text_offset"][:len(ids)], e["logprobs"]["tokens"])))
    only = ask(prompt=text, echo=True, logprobs=0, max_tokens=0)["choices"][0]
    check(only["text"] == text and only["logprobs"]["token_logprobs"] == e["logprobs"]["token_logprobs"][:len(ids)], only)
    out = s.events("/v1/completions", {"model": "aha-tiny", "prompt": text, "temperature": 0, "stream": True, "logprobs": 1})
    k = [json.loads(x) for x in out[:-1]]
    check("".join(c["choices"][0]["text"] for c in k) == r["choices"][0]["text"] and out[-1] == "[DONE]")
    check(sum(len(c["choices"][0]["logprobs"]["tokens"]) for c in k) == 16)
    for f in ({"prompt": None}, {"prompt": []}, {"prompt": ""[:0], "suffix": "x"}, {"prompt": [5, "x"]}, {"prompt": [10**6]}, {"prompt": [-1]}, {"prompt": "x", "best_of": 3},
              {"prompt": "x", "max_tokens": 0}, {"prompt": "x", "logprobs": 21}, {"prompt": "x", "logprobs": True}, {"prompt": "x", "echo": 1}, {"prompt": {"a": 1}},
              {"prompt": "x", "messages": []}, {"prompt": ["x"] * 100, "n": 2}):
        check(ask(400, **f)["error"]["param"] in f, f)


@serve_test("--parallel", "16")
def same_answer(s):
    """200 requests of all kinds at once: each has the answer that it has alone"""
    def request(i):
        if i % 4 == 3:
            return "/v1/completions", {"model": "aha-tiny", "prompt": f"Using {i % 50 + 2}, 3 and 2, make {i}.", "max_tokens": 20, "seed": i, "logprobs": 1}
        body = {"model": "aha-tiny", "messages": [{"role": "user", "content": f"Using {i % 40 + 1}, {i % 7 + 2} and 2, make {i}."}], "max_tokens": 30, "seed": i}
        return "/v1/chat/completions", {**body, **({}, {"n": 2, "stop": "2"}, {"temperature": 0, "frequency_penalty": 1, "logprobs": True})[i % 3]}

    def answer(i):
        r = s.json(*request(i))
        return json.dumps([r["choices"], r["usage"]["completion_tokens"]])

    got = {}
    at_once([lambda k=k: got.update({i: answer(i) for i in range(k, 200, 40)}) for k in range(40)])
    for i in range(200):
        check(answer(i) == got[i], i, got[i])
    check(s.stop() == 0, s.said)


if __name__ == "__main__":
    sys.exit(main())
