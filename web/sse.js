// Server-sent events, as a chat completion streams them: an async generator of the data of each event.
// Only what that takes: `data:` lines, several of them joined by line breaks, comments skipped.
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", data = null;
  try {
    for (;;) {
      const { value, done } = await reader.read();
      rest += done ? "\n\n" : value;
      let from = 0;
      for (let at; (at = rest.indexOf("\n", from)) >= 0; from = at + 1) {
        const line = rest.slice(from, rest[at - 1] === "\r" ? at - 1 : at);
        if (line === "" && data !== null) {
          yield data;
          data = null;
        } else if (line.startsWith("data:")) {
          const more = line.slice(line[5] === " " ? 6 : 5);
          data = data === null ? more : data + "\n" + more;
        }
      }
      rest = rest.slice(from);
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
