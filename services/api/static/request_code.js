// A request of /v1/chat/completions as code: for curl, and for Python with OpenAI's client.
"use strict";

const KEY_NAME = "MULTIFACET_API_KEY";
const OWN_FIELDS = ["preferences", "profile"];

const shellText = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function asCurl(request, origin) {
  return [
    `curl ${shellText(`${origin}/v1/chat/completions`)} \\`,
    `  -H "Authorization: Bearer $${KEY_NAME}" \\`,
    "  -H 'Content-Type: application/json' \\",
    `  -d ${shellText(JSON.stringify(request, null, 2))}`,
  ].join("\n");
}

// A JSON value as a literal of Python.
function pythonValue(value, indent = "") {
  const deeper = `${indent}    `;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const list = Array.isArray(value);
  const parts = list
    ? value.map((one) => `${deeper}${pythonValue(one, deeper)},\n`)
    : Object.entries(value).map(([name, one]) => `${deeper}${JSON.stringify(name)}: ${pythonValue(one, deeper)},\n`);
  if (!parts.length) return list ? "[]" : "{}";
  return `${list ? "[" : "{"}\n${parts.join("")}${indent}${list ? "]" : "}"}`;
}

function asPython(request, origin) {
  const own = Object.fromEntries(Object.entries(request).filter(([name]) => OWN_FIELDS.includes(name)));
  const known = Object.entries(request).filter(([name]) => !OWN_FIELDS.includes(name));
  if (Object.keys(own).length) known.push(["extra_body", own]);
  return [
    "import os",
    "",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${JSON.stringify(`${origin}/v1`)}, api_key=os.environ["${KEY_NAME}"])`,
    "answer = client.chat.completions.create(",
    ...known.map(([name, value]) => `    ${name}=${pythonValue(value, "    ")},`),
    ")",
    "print(answer.choices[0].message.content)",
    "",
  ].join("\n");
}
