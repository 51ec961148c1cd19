/**
 * A client of Switchboard for browsers: logs in, keeps one socket for any number of channels, and comes back by itself
 * when the socket is lost. It knows nothing of a page, and it keeps tokens nowhere but in the storage it is given.
 *
 * Each tab has a log-in of its own, except that a duplicated tab shares the one of its original.
 *
 * ```js
 * const client = new Switchboard();
 * await client.logIn("demo", "alice", "secret");
 * client.addEventListener("chat.message", ({ detail }) => console.log(detail.seq, detail.message.content));
 * client.connect();
 * client.subscribe(channelId);
 * const { seq } = await client.send(channelId, "hi");   // settled when the message is stored
 * ```
 *
 * Every frame of the broker is dispatched as an event of the frame's type, with the frame as `detail`. A durable frame
 * is dispatched once, whatever was sent again after a reconnect. The client's own events (a colon is in no frame's type):
 *
 * - `client:connection` — `{state, retryAt, code, reason}`; state is `connecting`, `online`, `offline` or `closed`
 * - `client:durable` — the frame of a durable message, whichever its type
 * - `client:refused` — `{channel, error}`: a channel could not be subscribed, or is no longer ours
 * - `client:signed-out` — `{reason}`: the tokens are gone; log in again
 */

/** In a tab's own storage, the id of its log-in; the tokens are in the storage of all tabs, under this and the id. */
const SESSION = "switchboard.session";
const SUBPROTOCOL = "switchboard.v1";
/** Sends that may wait for their answer. */
const MAX_WAITING = 100;
/** Milliseconds for the broker to say welcome, and to answer a ping. */
const WELCOME_WITHIN = 10_000;
const PONG_WITHIN = 10_000;
/** A connection that lasted so many milliseconds counts as sound: the next wait starts small again. */
const STABLE_AFTER = 10_000;
/** How often, at most, the wait has been doubled when a welcome came but the connection did not last. */
const AFTER_WELCOME = 3;
/** The share of a pair's life after which a new one is fetched. */
const REFRESH_AT = 0.75;
/** A pair younger than so many milliseconds is exchanged only if the broker refuses its access token. */
const REFRESH_EVERY = 10_000;
/**
 * Milliseconds for the broker to answer a refresh. Whoever gets no answer cannot know whether the token was used, and has
 * 30 seconds from then to ask again with the same one: that is time for two more attempts.
 */
const REFRESH_WITHIN = 8_000;
/** Milliseconds that a tab waits for another one to finish its refresh. */
const TURN_WITHIN = 30_000;
/** A longer timer of a browser fires at once beyond 2^31 ms, and late if the machine sleeps: it is set again on the way. */
const LONGEST_TIMER = 600_000;
/** The lives of the broker's tokens unless set otherwise, in milliseconds, for tokens that cannot be read. */
const ACCESS_LIFE = 300_000;
const REFRESH_LIFE = 86_400_000;
/** Waits between connections, in milliseconds: random between `floor` and the doubled `base`, at most `cap`. */
const BACKOFF = {
  soon: { floor: 0, base: 500, cap: 10_000 },
  usual: { floor: 200, base: 1_000, cap: 30_000 },
  slow: { floor: 2_000, base: 4_000, cap: 60_000 },
};

/** How long to wait after so many attempts in vain. */
function backoff({ floor, base, cap }, attempt) {
  return floor + Math.random() * Math.min(cap, base * 2 ** Math.min(attempt, 16));
}

/** A refusal of the broker, or `network` when it could not be asked. */
export class SwitchboardError extends Error {
  /** @param {{name?: string, code?: number|string, message?: string, retryable?: boolean, retry_after_ms?: number,
   *           field?: string}} refusal @param {number} [status] of the HTTP answer */
  constructor(refusal, status = 0) {
    super(refusal.message ?? "the request failed");
    // Over HTTP `code` is the name; a frame has both.
    this.name = refusal.name ?? String(refusal.code ?? "internal");
    this.code = refusal.code ?? 0;
    this.retryable = refusal.retryable ?? false;
    this.retryAfterMs = refusal.retry_after_ms ?? 0;
    this.field = refusal.field ?? null;
    this.status = status;
  }
}

/** A new id for a frame: the key under which the broker stores it once. */
export function newId() {
  // randomUUID exists on secure origins only; a broker in a local network may have none.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Switchboard extends EventTarget {
  #base;
  #session;

  #wanted = false;
  #socket = null;
  /** The access token that the socket has presented. */
  #presented = null;
  #state = "closed";
  #onlineSince = 0;
  #attempt = 0;
  #authFailures = 0;
  #maxBytes = 65_536;
  #pingTimer = 0;
  #deadline = 0;
  #retryTimer = 0;

  /** Channel id → `{live, position, timer}`; position is `{epoch, seq}` or null. */
  #channels = new Map();
  /** Frame id → a send that has no answer yet, in the order of sending. */
  #outbox = new Map();
  /** Frame id → channel, of subscribe frames that have no answer yet. */
  #joins = new Map();

  /**
   * @param {{base?: string|URL, storage?: Storage, tab?: Storage, locks?: LockManager|null}} [options] where the broker
   *   is; where tokens are kept for all tabs, and where the name of a tab's own is; what lets one tab at a time refresh
   */
  constructor({ base = location.origin, storage, tab, locks = globalThis.navigator?.locks } = {}) {
    super();
    this.#base = new URL(base);
    this.#session = new Session({
      storage: storage ?? browserStorage("localStorage"),
      tab: tab ?? browserStorage("sessionStorage"),
      locks,
      exchange: (refresh) => this.#http("POST", "/api/token/refresh/", { refresh }, { within: REFRESH_WITHIN }),
      revoke: (refresh) => this.#http("POST", "/api/token/blacklist/", { refresh }),
      renewed: () => this.#present(),
      ended: (reason) => this.#end(reason),
    });
    globalThis.addEventListener?.("online", () => this.reconnectNow());
  }

  /** Whether there are tokens; the broker may still refuse them. */
  get signedIn() {
    return this.#session.live;
  }

  /** The tenant of the session, as it was given at log-in. */
  get tenant() {
    return this.#session.tenant;
  }

  /** `connecting`, `online`, `offline` (will try again) or `closed`. */
  get state() {
    return this.#state;
  }

  // ---- tokens ----

  /** Fetches tokens for a password. @returns {Promise<void>} */
  async logIn(tenant, username, password) {
    const pair = await this.#http("POST", "/api/token/", { tenant, username, password });
    this.#session.begin({ tenant, ...pair });
  }

  /** Forgets the tokens, has the broker revoke them if it can be reached, and closes the socket. */
  logOut() {
    this.#session.end("logged out", { revoke: true });
  }

  /** Presents a new access token on a socket that was opened with an older one. */
  #present() {
    const access = this.#session.current;
    if (this.#state !== "online" || access === this.#presented) return;
    if (this.#transmit({ type: "auth.refresh", id: newId(), token: access })) this.#presented = access;
  }

  #end(reason) {
    this.disconnect();
    const error = new SwitchboardError({ name: "unauthorized", message: reason });
    for (const channel of [...this.#channels.keys()]) this.#forget(channel, error);
    this.#emit("client:signed-out", { reason });
  }

  // ---- HTTP ----

  /** The member the tokens name. @returns {Promise<{id: string, username: string, tenant: string}>} */
  me() {
    return this.#authorized("GET", "/api/me/");
  }

  /** All channels the member is in, at most `max`. */
  channels(max = 500) {
    return this.#pages("/api/channels/?limit=100", max);
  }

  async #pages(path, max) {
    const found = [];
    while (path && found.length < max) {
      const page = await this.#authorized("GET", path);
      found.push(...page.results);
      path = page.next && pathOf(page.next, this.#base);
    }
    return found;
  }

  /** Makes a channel. @param {string} name @param {string[]} members ids of the other members */
  createChannel(name, members = []) {
    return this.#authorized("POST", "/api/channels/", { name, members });
  }

  /** Older messages, in ascending order of `seq`. @returns {Promise<{messages: object[], more: boolean}>} */
  async history(channel, before, limit = 50) {
    const query = new URLSearchParams({ before, limit });
    const page = await this.#authorized("GET", `/api/channels/${encodeURIComponent(channel)}/messages/?${query}`);
    const messages = page.results.sort((a, b) => a.seq - b.seq);
    return { messages, more: messages.length > 0 && messages[0].seq > 1 };
  }

  /** Who is connected to a channel right now, 500 and a few at most. @returns {Promise<object[]>} members, `{id, username}` */
  async present(channel) {
    return this.#pages(`/api/channels/${encodeURIComponent(channel)}/presence/?limit=100`, 500);
  }

  async #authorized(method, path, body) {
    const token = await this.#session.access();
    try {
      return await this.#http(method, path, body, { token });
    } catch (error) {
      if (error.status !== 401 || !this.signedIn) throw error;
      this.#session.refused(token);
      return this.#http(method, path, body, { token: await this.#session.access() });
    }
  }

  async #http(method, path, body, { token, within } = {}) {
    const headers = { Accept: "application/json" };
    if (token) headers.Authorization = `Bearer ${token}`;
    if (body) headers["Content-Type"] = "application/json";
    const options = { method, headers, body: body && JSON.stringify(body), credentials: "omit", cache: "no-store" };
    const patience = within && new AbortController();
    const timer = within && setTimeout(() => patience.abort(), within);
    if (within) options.signal = patience.signal;
    const unreachable = { name: "network", message: "the broker cannot be reached", retryable: true };
    let response;
    let answer = null;
    try {
      response = await fetch(new URL(path, this.#base), options);
      answer = await response.json().catch(() => null);
    } catch {
      throw new SwitchboardError(unreachable);
    } finally {
      clearTimeout(timer);
    }
    if (response.ok && answer !== null) return answer;
    // The head came and the body did not.
    if (response.ok && response.status !== 204) throw new SwitchboardError(unreachable);
    if (response.ok) return null;
    const fallback = { message: `the broker answered with status ${response.status}`, retryable: response.status >= 500 };
    const wait = Number(response.headers.get("Retry-After") ?? 0) * 1_000 || 0;
    throw new SwitchboardError({ retry_after_ms: wait, ...(answer?.error ?? fallback) }, response.status);
  }

  // ---- the socket ----

  /** Opens the socket and keeps it open until `disconnect`. */
  connect() {
    if (this.#wanted) return;
    this.#wanted = true;
    this.#attempt = this.#authFailures = 0;
    this.#session.keepFresh(true);
    this.#open();
  }

  /** Closes the socket and stays away. Sends without an answer wait for the next `connect`. */
  disconnect() {
    this.#wanted = false;
    this.#session.keepFresh(false);
    this.#drop();
    this.#become("closed");
  }

  /** While waiting for the next attempt: does not wait. */
  reconnectNow() {
    if (this.#wanted && this.#state === "offline") this.#open();
  }

  async #open() {
    clearTimeout(this.#retryTimer);
    this.#become("connecting");
    let token;
    try {
      token = await this.#session.access();
    } catch (error) {
      // A refusal has ended the session.
      if (this.#wanted && this.#state === "connecting") this.#retry(BACKOFF.usual, 0, error.message);
      return;
    }
    if (!this.#wanted || this.#state !== "connecting" || this.#socket) return;
    const url = new URL("/ws/", this.#base);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    // The token goes as a subprotocol: an address would end up in logs.
    const socket = new WebSocket(url, [SUBPROTOCOL, `bearer.${token}`]);
    this.#socket = socket;
    this.#presented = token;
    this.#expect(WELCOME_WITHIN);
    socket.onmessage = ({ data }) => {
      if (this.#socket === socket) this.#receive(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (this.#socket === socket) this.#lost(code, reason);
    };
  }

  /** Gives the connection up unless a frame comes in time; a deadline that runs already stays. */
  #expect(within) {
    this.#deadline ||= setTimeout(() => this.#lost(4201, "no answer"), within);
  }

  #heard() {
    clearTimeout(this.#deadline);
    this.#deadline = 0;
  }

  /** Lets go of the socket, whichever state it is in. */
  #drop() {
    clearInterval(this.#pingTimer);
    this.#heard();
    clearTimeout(this.#retryTimer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
    this.#joins.clear();
    for (const channel of this.#channels.values()) {
      clearTimeout(channel.timer);
      channel.live = false;
    }
  }

  #lost(code, reason) {
    if (this.#state === "online") {
      const sound = Date.now() - this.#onlineSince >= STABLE_AFTER;
      this.#attempt = sound ? 0 : Math.min(this.#attempt, AFTER_WELCOME);
    }
    this.#drop();
    if (code >= 4000 && code < 4100) {
      // With another token the answer may be another; that is tried once. If there is none to be had, the session ends.
      const renewable = [4000, 4001, 4002, 4005].includes(code) && this.#authFailures++ === 0;
      if (!renewable) return this.#session.end(reason || "the broker refused the connection");
      this.#session.refused(this.#presented);
      return this.#retry(BACKOFF.soon, code, reason);
    }
    const ours = [1002, 1003, 1007, 1008, 1009].includes(code);
    const { soon, usual, slow } = BACKOFF;
    const pace = code >= 4200 && code < 4300 ? soon : ours || (code >= 4100 && code < 4200) ? slow : usual;
    // Position lost: what was missed cannot be sent, so the channel's state is asked for.
    if (code === 4203) for (const channel of this.#channels.values()) channel.resume = false;
    this.#retry(pace, code, reason);
  }

  #retry(pace, code, reason) {
    const delay = backoff(pace, this.#attempt++);
    this.#retryTimer = setTimeout(() => this.#open(), delay);
    this.#become("offline", { retryAt: Date.now() + delay, code, reason });
  }

  #become(state, { retryAt = 0, code = 0, reason = "" } = {}) {
    this.#state = state;
    this.#emit("client:connection", { state, retryAt, code, reason });
  }

  #transmit(frame) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  #receive(data) {
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    if (this.#state === "online" || frame.type === "welcome") this.#heard();
    if (this.#take(frame) !== false) this.#emit(frame.type, frame);
  }

  /** Acts on a frame; false when nobody needs to hear of it. */
  #take(frame) {
    switch (frame.type) {
      case "welcome": return this.#welcome(frame);
      case "channel.state": return this.#channelState(frame);
      case "subscribed": return this.#subscribed(frame);
      case "unsubscribed": return this.#unsubscribed(frame);
      case "ack": return this.#settle(frame);
      case "error": return this.#refused(frame);
      default: return this.#relay(frame);
    }
  }

  #welcome(frame) {
    this.#onlineSince = Date.now();
    this.#authFailures = 0;
    this.#maxBytes = frame.max_bytes ?? this.#maxBytes;
    this.#pingTimer = setInterval(() => {
      // The broker's own pings are answered by the browser, unseen; this one shows that the way there is open too.
      if (this.#transmit({ type: "ping" })) this.#expect(PONG_WITHIN);
    }, (frame.ping ?? 25) * 1_000);
    this.#become("online");
    // The tokens may have been renewed while the socket was being opened.
    this.#present();
    for (const channel of this.#channels.keys()) this.#join(channel);
  }

  // ---- channels ----

  /** Subscribes a channel now and after each reconnect. */
  subscribe(channel) {
    if (this.#channels.has(channel)) return;
    this.#channels.set(channel, { live: false, position: null, resume: true, timer: 0 });
    if (this.#state === "online") this.#join(channel);
  }

  /** Leaves a channel. What was being sent to it is given up. */
  unsubscribe(channel) {
    const known = this.#channels.get(channel);
    if (known?.live) this.#transmit({ type: "unsubscribe", channel });
    this.#forget(channel, new SwitchboardError({ name: "denied", message: "the channel was left" }));
  }

  #join(channel) {
    const known = this.#channels.get(channel);
    if (!known) return;
    const id = newId();
    this.#joins.set(id, channel);
    const since = known.resume && known.position ? { since: known.position } : {};
    this.#transmit({ type: "subscribe", id, channel, ...since });
  }

  #forget(channel, error) {
    clearTimeout(this.#channels.get(channel)?.timer);
    this.#channels.delete(channel);
    for (const [id, entry] of this.#outbox) {
      if (entry.frame.channel !== channel) continue;
      this.#outbox.delete(id);
      entry.reject(error);
    }
  }

  /** Adds to the frame how it joins what was seen before: `renumbered` (all of that is void) or `gap` (a hole before). */
  #channelState(frame) {
    const known = this.#channels.get(frame.channel.id);
    if (!known) return false;
    const seen = known.position;
    frame.messages.sort((a, b) => a.seq - b.seq);
    // A smaller number under the same name: the broker's database was set back.
    frame.renumbered = seen !== null && (seen.epoch !== frame.epoch || frame.seq < seen.seq);
    const first = frame.messages[0]?.seq ?? frame.seq + 1;
    frame.gap = seen !== null && !frame.renumbered && first > seen.seq + 1;
    const kept = seen && !frame.renumbered ? seen.seq : 0;
    known.position = { epoch: frame.epoch, seq: Math.max(kept, frame.seq) };
    return true;
  }

  #subscribed(frame) {
    const known = this.#channels.get(frame.channel);
    if (!known) return false;
    known.live = known.resume = true;
    known.position ??= { epoch: frame.epoch, seq: frame.seq };
    for (const entry of this.#outbox.values()) {
      if (entry.frame.channel === frame.channel) this.#transmitOnce(entry);
    }
    return true;
  }

  #unsubscribed({ channel }) {
    if (!this.#channels.has(channel)) return;
    const error = new SwitchboardError({ name: "unknown_channel", message: "you are no longer in this channel" });
    this.#forget(channel, error);
    this.#emit("client:refused", { channel, error });
  }

  /** Passes on what a handler sent; of durable messages only those not seen before. */
  #relay(frame) {
    const durable = typeof frame.seq === "number" && frame.message instanceof Object;
    if (!durable) return true;
    const known = this.#channels.get(frame.channel);
    if (!known || (known.position && frame.seq <= known.position.seq)) return false;
    if (known.position) known.position = { epoch: known.position.epoch, seq: frame.seq };
    this.#emit("client:durable", frame);
    return true;
  }

  // ---- sending ----

  /**
   * Sends a chat message. While there is no connection it waits; without an answer it is sent again after a reconnect,
   * under the same id, so that it is stored once.
   *
   * @param {string} channel a subscribed channel
   * @param {string|object} message text, or `{content, reply_to?, attachments?}`
   * @param {string} [id] of an earlier attempt that failed, to try it again
   * @returns {Promise<object>} the ack: the message is stored
   * @throws {SwitchboardError} the refusal
   */
  send(channel, message, id = newId()) {
    const frame = { type: "chat.message", id, channel, message };
    const refuse = (name, text, retryable) => Promise.reject(new SwitchboardError({ name, message: text, retryable }));
    if (!this.#channels.has(channel)) return refuse("unknown_channel", "the channel is not subscribed", false);
    if (this.#outbox.size >= MAX_WAITING) return refuse("overloaded", "too many messages wait to be sent", true);
    if (new TextEncoder().encode(JSON.stringify(frame)).length > this.#maxBytes) {
      // The broker might close the socket over it, again after each reconnect.
      return refuse("too_large", "the message is too long", false);
    }
    return new Promise((resolve, reject) => {
      const entry = { frame, resolve, reject, socket: null };
      this.#outbox.set(id, entry);
      if (this.#channels.get(channel).live) this.#transmitOnce(entry);
    });
  }

  /** Tells the others that the member types, or stopped. Lost when there is no connection. */
  typing(channel, isTyping) {
    if (this.#channels.get(channel)?.live) this.#transmit({ type: "typing", channel, is_typing: isTyping });
  }

  /** Marks everything up to a message as read. @returns {boolean} whether it could be sent now */
  markRead(channel, messageId) {
    if (!this.#channels.get(channel)?.live) return false;
    return this.#transmit({ type: "message.read", channel, message_id: messageId });
  }

  #transmitOnce(entry) {
    if (entry.socket !== this.#socket && this.#transmit(entry.frame)) entry.socket = this.#socket;
  }

  #settle(frame) {
    this.#joins.delete(frame.id);
    const entry = this.#outbox.get(frame.id);
    this.#outbox.delete(frame.id);
    entry?.resolve(frame);
  }

  #refused(frame) {
    const error = new SwitchboardError(frame);
    const entry = this.#outbox.get(frame.id);
    const channel = this.#joins.get(frame.id);
    if (entry) {
      this.#outbox.delete(frame.id);
      entry.reject(error);
    } else if (channel !== undefined) {
      this.#joins.delete(frame.id);
      this.#joinRefused(channel, error);
    } else if (error.name === "token_expired" && this.signedIn) {
      this.#session.refused(this.#presented);
      this.#session.access().catch(() => {});
    }
  }

  #joinRefused(channel, error) {
    const known = this.#channels.get(channel);
    if (!known) return;
    if (error.name === "unrecoverable_position") {
      known.resume = false;
      this.#join(channel);
    } else if (error.retryable) {
      const socket = this.#socket;
      const delay = error.retryAfterMs + 500 + Math.random() * 2_000;
      known.timer = setTimeout(() => this.#socket === socket && this.#join(channel), delay);
    } else {
      this.#forget(channel, error);
      this.#emit("client:refused", { channel, error });
    }
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/**
 * The tokens of one log-in. A refresh token is good for one use, so the tabs that share a log-in share its tokens too, and
 * take turns in exchanging them: before its turn to ask the broker, a tab looks whether another has done so meanwhile.
 *
 * The storage of all tabs has the tokens, not that of the tab: a copy that a duplicated or restored tab got of them would
 * be spent as soon as its original refreshes, and using it would look like theft.
 *
 * Only the broker's 401 ends a log-in. Anything else that goes wrong is tried again.
 */
class Session {
  #storage;
  #tab;
  #locks;
  #exchange;
  #revoke;
  #renewed;
  #ended;
  /** Under which the storage has the tokens; null when logged out. */
  #key = null;
  /** `{tenant, access, refresh, renewAt, endsAt}`, as the storage has it, or null. */
  #pair = null;
  /** The last access token that the broker has refused. */
  #refused = null;
  #renewing = null;
  #failures = 0;
  #retryAt = 0;
  #fresh = false;
  #timer = 0;

  constructor({ storage, tab, locks, exchange, revoke, renewed, ended }) {
    [this.#storage, this.#tab, this.#locks] = [storage, tab, locks];
    [this.#exchange, this.#revoke, this.#renewed, this.#ended] = [exchange, revoke, renewed, ended];
    this.#sweep();
    const id = tab.getItem(SESSION);
    this.#key = id && keyOf(id);
    this.#pair = this.#read();
    if (!this.#pair) this.#key = null;
    globalThis.addEventListener?.("storage", ({ key }) => {
      // Without a key, all of it was cleared.
      if (this.#pair && (key === this.#key || key === null)) this.#reread();
    });
  }

  get live() {
    return this.#pair !== null;
  }

  get tenant() {
    return this.#pair?.tenant ?? null;
  }

  get current() {
    return this.#pair?.access ?? null;
  }

  /** Starts a log-in of this tab. One that it shared with other tabs stays theirs. */
  begin(pair) {
    const id = newId();
    this.#key = keyOf(id);
    this.#tab.setItem(SESSION, id);
    this.#keep(pair);
  }

  /** Forgets the tokens, in all tabs that share them. */
  end(reason, { revoke = false } = {}) {
    const pair = this.#pair;
    if (!pair) return;
    this.#storage.removeItem(this.#key);
    this.#tab.removeItem(SESSION);
    this.#key = this.#pair = this.#refused = null;
    clearTimeout(this.#timer);
    this.#ended(reason);
    if (revoke) this.#revoke(pair.refresh).catch(() => {});
  }

  /** An access token that the broker has not refused, and that is not about to end if that can be helped. */
  async access() {
    this.#reread();
    const pair = this.#pair;
    if (!pair) throw loggedOut("not logged in");
    if (pair.access === this.#refused) {
      await this.#renew();
    } else if (Date.now() >= Math.max(pair.renewAt, this.#retryAt)) {
      // In vain it does no harm yet: the token at hand may be good for a while.
      await this.#renew().catch(() => {});
    }
    if (!this.#pair) throw loggedOut("your session has ended");
    return this.#pair.access;
  }

  /** Says that the broker has refused an access token. */
  refused(access) {
    this.#refused = access;
  }

  /** Whether new tokens are fetched before the present ones end, without being asked for. */
  keepFresh(fresh) {
    this.#fresh = fresh;
    this.#schedule();
  }

  #schedule() {
    clearTimeout(this.#timer);
    if (!this.#fresh || !this.#pair) return;
    const at = Math.max(this.#pair.renewAt, this.#retryAt);
    // What is left after its end is up to those who need a token: the broker has the last word on that end.
    if (this.#failures > 0 && at > this.#pair.endsAt) return;
    // Tabs that cannot take turns should at least not come at once.
    const apart = this.#locks ? 0 : Math.random() * 3_000;
    this.#timer = setTimeout(() => {
      if (Date.now() < at) return this.#schedule();
      this.#renew().catch(() => {});
    }, Math.min(Math.max(0, at - Date.now()) + apart, LONGEST_TIMER));
  }

  /** Exchanges the tokens for new ones, unless another tab has. Settled for all who ask meanwhile. */
  #renew() {
    this.#renewing ??= this.#inTurn(() => this.#renewNow()).then(
      () => {
        this.#failures = this.#retryAt = 0;
      },
      (error) => {
        this.#retryAt = Date.now() + Math.max(error.retryAfterMs ?? 0, backoff(BACKOFF.usual, this.#failures++));
        throw error;
      },
    ).finally(() => {
      this.#renewing = null;
      this.#schedule();
    });
    return this.#renewing;
  }

  async #renewNow() {
    this.#reread();
    const pair = this.#pair;
    if (!pair) throw loggedOut("your session has ended");
    if (pair.access !== this.#refused && Date.now() < pair.renewAt) return;
    let next;
    try {
      next = await this.#exchange(pair.refresh);
    } catch (error) {
      this.#reread();
      if (this.#pair?.refresh !== pair.refresh) {
        // Without turns another tab may have been quicker.
        if (this.#pair) return;
      } else if (error.status === 401) {
        this.end("your session has ended");
      }
      throw error;
    }
    this.#reread();
    if (this.#pair?.refresh === pair.refresh) return this.#keep({ ...pair, ...next });
    if (this.#pair) return;
    // Someone logged out meanwhile, and the broker was told of the old token only.
    this.#revoke(next.refresh).catch(() => {});
    throw loggedOut("your session has ended");
  }

  /** Acts while no other tab does. Where the browser has no locks, the broker's patience with a second use has to do. */
  async #inTurn(act) {
    if (!this.#locks || !this.#key) return act();
    const patience = new AbortController();
    const timer = setTimeout(() => patience.abort(), TURN_WITHIN);
    let ours = false;
    const begin = () => {
      ours = true;
      clearTimeout(timer);
      return act();
    };
    try {
      return await this.#locks.request(this.#key, { signal: patience.signal }, begin);
    } catch (error) {
      if (ours) throw error;
      const message = "another tab is busy getting new tokens";
      throw new SwitchboardError({ name: "network", message, retryable: true });
    } finally {
      clearTimeout(timer);
    }
  }

  #keep({ tenant, access, refresh }) {
    const now = Date.now();
    const [life, end] = [lifetime(access, ACCESS_LIFE), lifetime(refresh, REFRESH_LIFE)];
    // An access token may outlive the refresh token, and both may be shorter than what is sensible.
    const after = Math.max(Math.min(life, end) * REFRESH_AT, Math.min(REFRESH_EVERY, end * REFRESH_AT));
    this.#storage.setItem(this.#key, JSON.stringify({ tenant, access, refresh, renewAt: now + after, endsAt: now + end }));
    this.#reread();
  }

  /** Takes over what the storage has. */
  #reread() {
    if (!this.#pair && !this.#key) return;
    const stored = this.#read();
    if (!stored) return this.end("your session has ended");
    if (stored.access === this.#pair?.access) return;
    this.#pair = stored;
    this.#failures = this.#retryAt = 0;
    this.#schedule();
    this.#renewed();
  }

  #read() {
    return this.#key && parsed(this.#storage.getItem(this.#key));
  }

  /** Removes what tabs that were closed have left, once it is of no use to anyone. */
  #sweep() {
    const keys = Array.from({ length: this.#storage.length }, (_, index) => this.#storage.key(index));
    for (const key of keys.filter((key) => key?.startsWith(keyOf("")))) {
      if (!(parsed(this.#storage.getItem(key))?.endsAt > Date.now())) this.#storage.removeItem(key);
    }
  }
}

const keyOf = (id) => `${SESSION}.${id}`;

const loggedOut = (message) => new SwitchboardError({ name: "unauthorized", message });

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** A storage of the browser, or one that lasts as long as the page where the browser has none or refuses it. */
function browserStorage(name) {
  try {
    if (globalThis[name]) return globalThis[name];
  } catch {
    // Forbidden by a setting.
  }
  const entries = new Map();
  return {
    get length() {
      return entries.size;
    },
    key: (index) => [...entries.keys()][index] ?? null,
    getItem: (key) => entries.get(key) ?? null,
    setItem: (key, value) => void entries.set(key, value),
    removeItem: (key) => void entries.delete(key),
  };
}

/** How long a token lives, in milliseconds, by its own claims: the clocks of both sides need not agree. */
function lifetime(token, fallback) {
  try {
    const { iat, exp } = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    if (exp > iat) return (exp - iat) * 1_000;
  } catch {
    // Not a token that can be read.
  }
  return fallback;
}

/** The path of a page's link, which is followed on our own broker whatever host it names. */
function pathOf(link, base) {
  const url = new URL(link, base);
  return url.pathname + url.search;
}
