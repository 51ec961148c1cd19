/** The handler consists of plain functions, so its tests need no broker: `npm test`. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { handler } from "./handler.js";

const say = (text) => handler.handle({ kind: "shout", payload: JSON.stringify({ type: "shout", text }) });
const kept = (text) => [
  { tag: "store", val: { kind: "shout", content: JSON.stringify({ text }), replyTo: undefined, attachments: [] } },
];

beforeEach(() => handler.init(""));

test("what is said is kept in capitals", () => {
  assert.deepEqual(say("hello"), kept("HELLO!"));
});

test("the operator sets what it ends with", () => {
  handler.init('{"mark":"?!"}');
  assert.deepEqual(say("hello"), kept("HELLO?!"));
  assert.throws(() => handler.init('{"marc":"?!"}'), (reason) => reason === "`mark` must be a string");
});

test("a wrong frame is explained", () => {
  for (const text of ["", "x".repeat(501)]) {
    assert.throws(() => say(text), { tag: "invalid", val: "`text` must be 1 to 500 characters" });
  }
  assert.throws(() => say(7), { tag: "invalid", val: "`text` must be a string" });
});
