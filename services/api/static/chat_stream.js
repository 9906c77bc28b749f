// Reads a streamed answer of /v1/chat/completions, and says what went wrong in a sentence.
"use strict";

// The stream ended in the middle: the api said why, or the connection broke.
class AnswerFailed extends Error {}

const sentence = (text) => {
  const trimmed = String(text).trim();
  if (!trimmed) return "The server gave no reason.";
  return trimmed[0].toUpperCase() + trimmed.slice(1) + (/[.!?…]$/.test(trimmed) ? "" : ".");
};

// What a refusal says: OpenAI's shape on this route, a problem (RFC 9457) where the request did not get so far.
function refusalText(status, text) {
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // a proxy's page
  }
  const said = body?.error?.message ?? body?.detail;
  if (status === 401) return `${sentence(said ?? "your session has ended")} Log in again in another tab, then answer once more.`;
  return said ? sentence(said) : `The server answered ${status} and did not say why.`;
}

// The data of each server-sent event. Events may be cut anywhere between two reads.
async function* serverEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += value;
      const events = rest.split(/\r?\n\r?\n/);
      rest = events.pop();
      for (const event of events) {
        const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        if (data.length) yield data.join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Asks, and calls `take.piece(text)` as the answer comes and `take.facts(multifacet)` when the api tells who answered.
// Returns {finish, usage}; raises AnswerFailed, or AbortError where `signal` stopped it.
async function streamAnswer(request, signal, take) {
  let response;
  try {
    response = await fetch("/v1/chat/completions", {
      method: "POST", signal, headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true } }),
    });
  } catch (error) {
    throw error.name === "AbortError" ? error : new AnswerFailed("The server cannot be reached. Try again when it can.");
  }
  if (!response.ok) throw new AnswerFailed(refusalText(response.status, await response.text()));
  let finish = null;
  let usage = null;
  try {
    for await (const data of serverEvents(response.body)) {
      if (data === "[DONE]") break;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new AnswerFailed(sentence(chunk.error.message ?? "the answer failed"));
      const choice = chunk.choices?.[0];
      if (choice?.delta?.content) take.piece(choice.delta.content);
      if (choice?.finish_reason) finish = choice.finish_reason;
      if (chunk.usage) usage = chunk.usage;
      if (chunk.multifacet) take.facts(chunk.multifacet);
    }
  } catch (error) {
    if (error instanceof AnswerFailed || error.name === "AbortError") throw error;
    throw new AnswerFailed("The connection broke before the answer had ended.");
  }
  if (finish === null) throw new AnswerFailed("The connection ended before the answer did.");
  return { finish, usage };
}
