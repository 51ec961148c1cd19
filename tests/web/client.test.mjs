// The log-in of the chat page's client, broker/web/client.js: tabs that share it, answers that are lost, tokens of any life.
//
// Everything around the client is made up: time, which passes at once; a browser with tabs, their storages and locks; and a
// broker whose refresh tokens are good once, with 30 seconds in which the same token gets the same answer again.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, test } from "node:test";

const SECOND = 1_000;
const HOUR = 3_600 * SECOND;
const DAY = 24 * HOUR;
const GRACE = 30 * SECOND;
/** What a browser's timer holds; beyond, it fires at once. */
const LONGEST = 2 ** 31 - 1;

const real = { setTimeout, clearTimeout, setInterval, clearInterval, setImmediate, now: Date.now, fetch: globalThis.fetch };
const source = readFileSync(new URL("../../broker/web/client.js", import.meta.url), "utf8");
const { Switchboard } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

// ---- time ----

let now;
let timers;
let nextTimer;

function arm(act, delay = 0, every = false) {
  const wait = delay > LONGEST || !(delay > 0) ? 1 : delay;
  timers.set(++nextTimer, { at: now + wait, act, every: every && wait });
  return nextTimer;
}

/** Lets all that waits for no timer happen. */
async function settle() {
  for (let turn = 0; turn < 5; turn++) await new Promise((done) => real.setImmediate(done));
}

async function pass(time) {
  const end = now + time;
  await settle();
  for (;;) {
    const due = [...timers].filter(([, timer]) => timer.at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
    if (!due) break;
    const [id, timer] = due;
    now = Math.max(now, timer.at);
    if (timer.every) timer.at = now + timer.every;
    else timers.delete(id);
    timer.act();
    await settle();
  }
  now = end;
}

// ---- the broker ----

class FakeBroker {
  life = { access: 300 * SECOND, refresh: DAY };
  /** What happens to a refresh: `answer`, `lose` (done, and the answer is lost), `silence` (done, and never answered), `fail`. */
  mode = "answer";
  grace = true;
  /** Times of the requests for a refresh, and how often a token was used that was spent. */
  refreshes = [];
  thefts = 0;
  revoked = [];
  #spent = new Map();
  #ended = new Set();
  #serial = 0;

  token(kind, family) {
    const life = this.life[kind] / SECOND;
    const claims = { iat: Math.floor(now / SECOND), exp: Math.floor(now / SECOND) + life, family, kind, jti: ++this.#serial };
    return `h.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.s`;
  }

  pair(family = ++this.#serial) {
    return { access: this.token("access", family), refresh: this.token("refresh", family) };
  }

  /** A refresh, as a request: answers `[status, body]`. */
  refresh(token) {
    const { family, exp } = claimsOf(token);
    const before = this.#spent.get(token);
    if (this.#ended.has(family) || now >= exp * SECOND) return [401, refusal("unauthorized")];
    if (before && this.grace && now - before.at < GRACE) return [200, before.pair];
    if (before) {
      this.thefts += 1;
      this.#ended.add(family);
      return [401, refusal("unauthorized")];
    }
    const pair = this.pair(family);
    this.#spent.set(token, { at: now, pair });
    return [200, pair];
  }

  async answer(path, { method, headers, body, signal }) {
    const given = body && JSON.parse(body);
    if (path === "/api/token/") return [200, this.pair()];
    if (path === "/api/token/blacklist/") {
      this.revoked.push(given.refresh);
      this.#ended.add(claimsOf(given.refresh).family);
      return [200, {}];
    }
    if (path === "/api/token/refresh/") {
      this.refreshes.push(now);
      if (this.mode === "fail") return [503, refusal("unavailable", true)];
      const answer = this.refresh(given.refresh);
      if (this.mode === "lose") throw new TypeError("the connection was lost");
      if (this.mode === "silence") {
        await new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("aborted"))));
      }
      return answer;
    }
    const { exp, family } = claimsOf(headers.Authorization.split(" ")[1]);
    if (now >= exp * SECOND || this.#ended.has(family)) return [401, refusal("unauthorized")];
    assert.equal(`${method} ${path}`, "GET /api/me/");
    return [200, { id: "alice", username: "alice", tenant: "demo" }];
  }
}

const claimsOf = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
const refusal = (code, retryable = false) => ({ error: { code, message: code, retryable } });

class FakeSocket {
  static OPEN = 1;
  static all = [];
  readyState = 1;
  sent = [];

  constructor(url, protocols) {
    this.token = protocols[1].slice("bearer.".length);
    FakeSocket.all.push(this);
    real.setImmediate(() => this.hears({ type: "welcome", ping: 100_000, max_bytes: 65_536 }));
  }

  hears(frame) {
    if (this.readyState === 1) this.onmessage({ data: JSON.stringify(frame) });
  }

  send(text) {
    const frame = JSON.parse(text);
    this.sent.push(frame);
    if (frame.type === "auth.refresh") this.token = frame.token;
    if (frame.type === "ping") this.hears({ type: "pong" });
  }

  close() {
    this.readyState = 3;
  }

  closedBy(code, reason) {
    this.readyState = 3;
    this.onclose({ code, reason });
  }
}

// ---- the browser ----

class FakeStorage {
  #entries;
  #tell;

  constructor(entries = [], tell = () => {}) {
    this.#entries = new Map(entries);
    this.#tell = tell;
  }

  get length() {
    return this.#entries.size;
  }

  key(index) {
    return [...this.#entries.keys()][index] ?? null;
  }

  getItem(key) {
    return this.#entries.get(key) ?? null;
  }

  setItem(key, value) {
    this.#entries.set(key, value);
    this.#tell(key);
  }

  removeItem(key) {
    this.#entries.delete(key);
    this.#tell(key);
  }

  copy() {
    return new FakeStorage(this.#entries);
  }
}

class FakeLocks {
  #queues = new Map();

  async request(name, { signal }, act) {
    const before = this.#queues.get(name) ?? Promise.resolve();
    let release;
    this.#queues.set(name, before.then(() => new Promise((done) => (release = done))));
    const turn = await Promise.race([
      before.then(() => "ours"),
      new Promise((given) => signal.addEventListener("abort", () => given("late"))),
    ]);
    if (turn === "late") {
      before.then(() => release());
      throw new DOMException("aborted", "AbortError");
    }
    await null;
    try {
      return await act();
    } finally {
      release();
    }
  }
}

class Browser {
  locks = new FakeLocks();
  /** What hears of changes of the storage, by tab. Here a tab hears of its own too, which changes nothing for it. */
  #listeners = new Map();
  storage = new FakeStorage([], (key) => {
    for (const listener of this.#listeners.values()) real.setImmediate(() => listener({ key }));
  });

  /** A tab with a client: a new one, or a copy or a reload of another's. */
  open(tab = new FakeStorage()) {
    globalThis.addEventListener = (type, listener) => type === "storage" && this.#listeners.set(tab, listener);
    const { storage, locks } = this;
    const client = new Switchboard({ base: "http://broker.test", storage, tab, locks });
    delete globalThis.addEventListener;
    client.reasons = [];
    client.addEventListener("client:signed-out", ({ detail }) => client.reasons.push(detail.reason));
    return { client, tab };
  }

  /** Ends a tab, or the page in it: nothing of it happens any more. A reload is a tab opened with the same storage. */
  close({ client, tab }) {
    this.#listeners.delete(tab);
    client.disconnect();
  }

  async logIn() {
    const tab = this.open();
    await tab.client.logIn("demo", "alice", "secret");
    tab.client.connect();
    await settle();
    return tab;
  }

  async duplicate({ tab }) {
    const copy = this.open(tab.copy());
    copy.client.connect();
    await settle();
    return copy;
  }
}

let broker;
let browser;

beforeEach(() => {
  [now, timers, nextTimer] = [1_700_000_000_000, new Map(), 0];
  FakeSocket.all = [];
  broker = new FakeBroker();
  browser = new Browser();
  Date.now = () => now;
  globalThis.setTimeout = (act, delay) => arm(act, delay);
  globalThis.setInterval = (act, delay) => arm(act, delay, true);
  globalThis.clearTimeout = globalThis.clearInterval = (id) => void timers.delete(id);
  globalThis.WebSocket = FakeSocket;
  globalThis.fetch = async (url, options) => {
    const [status, body] = await broker.answer(url.pathname, options);
    return { status, ok: status < 400, headers: new Headers(), json: async () => body };
  };
});

afterEach(() => {
  const { setTimeout, clearTimeout, setInterval, clearInterval } = real;
  Object.assign(globalThis, { setTimeout, clearTimeout, setInterval, clearInterval, fetch: real.fetch });
  Date.now = real.now;
});

/** A client with tokens that the broker accepts, of which nothing was said to its member. */
async function assertSignedIn(...tabs) {
  for (const { client } of tabs) {
    assert.equal((await client.me()).username, "alice");
    assert.deepEqual(client.reasons, []);
    assert.equal(client.state, "online");
  }
  assert.equal(broker.thefts, 0);
}

// ---- tabs ----

test("tabs that share a log-in refresh once for all of them", async () => {
  const first = await browser.logIn();
  const tabs = [first, await browser.duplicate(first), await browser.duplicate(first)];
  await pass(230 * SECOND);
  assert.equal(broker.refreshes.length, 1);
  await pass(4 * HOUR);
  assert.ok(broker.refreshes.length <= 65, `${broker.refreshes.length} refreshes`);
  await assertSignedIn(...tabs);
  const current = new Set(FakeSocket.all.map((socket) => socket.token));
  assert.equal(current.size, 1, "each socket was given the newest token");
});

test("a tab that comes back after hours uses what the others have stored", async () => {
  const first = await browser.logIn();
  const frozen = first.tab.copy();
  await pass(10 * HOUR);
  const back = await browser.duplicate({ tab: frozen });
  await assertSignedIn(first, back);
});

test("two tabs that find their token refused at once ask for one new pair", async () => {
  const first = await browser.logIn();
  const second = await browser.duplicate(first);
  for (const { client } of [first, second]) client.disconnect();
  await pass(HOUR);
  await Promise.all([first.client.me(), second.client.me()]);
  assert.equal(broker.refreshes.length, 1);
});

test("without locks two refreshes at once do no harm", async () => {
  browser.locks = null;
  const first = await browser.logIn();
  const second = await browser.duplicate(first);
  await pass(12 * HOUR);
  await assertSignedIn(first, second);
  for (const { client } of [first, second]) client.disconnect();
  await pass(HOUR);
  await Promise.all([first.client.me(), second.client.me()]);
  assert.equal(broker.thefts, 0);
});

test("two log-ins in two tabs know nothing of each other", async () => {
  const first = await browser.logIn();
  const second = await browser.logIn();
  first.client.logOut();
  await settle();
  assert.equal(first.client.signedIn, false);
  await assertSignedIn(second);
});

test("a log-out is one in all tabs that share the log-in", async () => {
  const first = await browser.logIn();
  const second = await browser.duplicate(first);
  first.client.logOut();
  await settle();
  assert.deepEqual(second.client.reasons, ["your session has ended"]);
  assert.equal(browser.storage.length, 0);
  assert.equal(browser.open(second.tab).client.signedIn, false);
});

test("a log-out during a refresh leaves no token that is good", async () => {
  const first = await browser.logIn();
  const second = await browser.duplicate(first);
  second.client.disconnect();
  const answer = broker.refresh.bind(broker);
  broker.refresh = (token) => {
    const pair = answer(token);
    second.client.logOut();
    return pair;
  };
  await pass(300 * SECOND);
  assert.equal(broker.refreshes.length, 1);
  assert.equal(first.client.signedIn, false);
  assert.equal(broker.revoked.length, 2, "the token of the log-out, and the one that came after it");
});

test("what closed tabs have left is removed once it has ended", async () => {
  browser.close(await browser.logIn());
  await pass(DAY - HOUR);
  browser.open();
  assert.equal(browser.storage.length, 1);
  await pass(2 * HOUR);
  browser.open();
  assert.equal(browser.storage.length, 0);
});

// ---- answers that do not come ----

test("a reload during a refresh asks again with the same token", async () => {
  broker.mode = "silence";
  const before = await browser.logIn();
  await pass(226 * SECOND);
  assert.equal(broker.refreshes.length, 1);
  browser.close(before);
  // Locks end with their page.
  browser.locks = new FakeLocks();
  broker.mode = "answer";
  const after = browser.open(before.tab);
  after.client.connect();
  await pass(5 * SECOND);
  await assertSignedIn(after);
});

for (const mode of ["lose", "silence"]) {
  test(`a client that gets no answer (${mode}) asks again while the same answer is to be had`, async () => {
    const only = await browser.logIn();
    broker.mode = mode;
    await pass(225 * SECOND);
    await pass(GRACE - SECOND);
    const soon = broker.refreshes.filter((at) => at < broker.refreshes[0] + GRACE);
    assert.ok(soon.length >= 3, `${soon.length} attempts`);
    broker.mode = "answer";
  });
}

test("an outage signs nobody out, and is not met with a storm", async () => {
  const only = await browser.logIn();
  broker.mode = "fail";
  await pass(8 * HOUR);
  const attempts = broker.refreshes.length;
  assert.ok(attempts > 100 && attempts < 8 * 3_600 / 10, `${attempts} attempts in 8 hours`);
  broker.mode = "answer";
  await pass(70 * SECOND);
  await assertSignedIn(only);
});

test("a refresh that fails does not keep a request from using a token that is still good", async () => {
  const only = await browser.logIn();
  only.client.disconnect();
  broker.mode = "fail";
  await pass(240 * SECOND);
  assert.equal((await only.client.me()).username, "alice");
});

test("a refusal ends the log-in, and says so", async () => {
  const only = await browser.logIn();
  broker.refresh = () => [401, refusal("unauthorized")];
  await pass(300 * SECOND);
  assert.deepEqual(only.client.reasons, ["your session has ended"]);
  assert.equal(only.client.signedIn, false);
  assert.equal(broker.refreshes.length, 1);
  assert.equal(browser.storage.length, 0);
});

// ---- lives ----

test("a token of 40 days is renewed after 30, by timers that a browser can hold", async () => {
  broker.life = { access: 40 * DAY, refresh: 60 * DAY };
  const only = await browser.logIn();
  await pass(29 * DAY);
  assert.equal(broker.refreshes.length, 0);
  await pass(2 * DAY);
  assert.equal(broker.refreshes.length, 1);
  await assertSignedIn(only);
});

test("tokens are renewed before the refresh token ends, even if the access token lives longer", async () => {
  broker.life = { access: 2 * DAY, refresh: DAY };
  const only = await browser.logIn();
  await pass(10 * DAY);
  assert.equal(broker.refreshes.length, 13, "one in 18 hours");
  await assertSignedIn(only);
});

test("a token of three seconds is renewed every ten, and when the broker refuses it", async () => {
  broker.life = { access: 3 * SECOND, refresh: DAY };
  const only = await browser.logIn();
  await pass(100 * SECOND);
  assert.equal(broker.refreshes.length, 10);
  await pass(5 * SECOND);
  assert.equal((await only.client.me()).username, "alice");
  assert.equal(broker.refreshes.length, 11);
  await assertSignedIn(only);
});

test("tokens that cannot be read are renewed as if they were of the usual life", async () => {
  broker.token = (kind, family) => `${kind}.${Buffer.from(JSON.stringify({ family, exp: 2 ** 40 })).toString("base64url")}.${Math.random()}`;
  const only = await browser.logIn();
  await pass(HOUR);
  assert.equal(broker.refreshes.length, 16, "one in 225 seconds");
  await assertSignedIn(only);
});

// ---- the socket ----

test("an open socket is given each new token", async () => {
  await browser.logIn();
  await pass(230 * SECOND);
  const [socket] = FakeSocket.all;
  assert.equal(FakeSocket.all.length, 1);
  assert.deepEqual(socket.sent.map((frame) => frame.type).filter((type) => type !== "ping"), ["auth.refresh"]);
});

for (const code of [4000, 4001, 4002]) {
  test(`after a close with ${code} a new token is tried once`, async () => {
    const only = await browser.logIn();
    FakeSocket.all[0].closedBy(code, "not any more");
    await pass(2 * SECOND);
    assert.equal(broker.refreshes.length, 1);
    assert.equal(FakeSocket.all.length, 2);
    assert.notEqual(FakeSocket.all[1].token, FakeSocket.all[0].token);
    await assertSignedIn(only);
    broker.refresh = () => [401, refusal("unauthorized")];
    FakeSocket.all[1].closedBy(code, "not any more");
    await pass(2 * SECOND);
    assert.deepEqual(only.client.reasons, ["your session has ended"]);
  });
}
