/**
 * A client of Switchboard for browsers: logs in, keeps one socket for any number of channels, and comes back by itself
 * when the socket is lost. It knows nothing of a page, and it keeps tokens nowhere but in the storage it is given.
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

const STORAGE_KEY = "switchboard.session";
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
/** The share of a token's life after which a new one is fetched. */
const REFRESH_AT = 0.75;
/** Waits between connections, in milliseconds: random between `floor` and the doubled `base`, at most `cap`. */
const BACKOFF = {
  soon: { floor: 0, base: 500, cap: 10_000 },
  usual: { floor: 200, base: 1_000, cap: 30_000 },
  slow: { floor: 2_000, base: 4_000, cap: 60_000 },
};

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
  #storage;
  /** `{tenant, access, refresh, renewAt}` or null. */
  #session;
  #refreshing = null;
  #renewTimer = 0;

  #wanted = false;
  #socket = null;
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

  /** @param {{base?: string|URL, storage?: Storage}} [options] where the broker is, and where tokens are kept */
  constructor({ base = location.origin, storage = sessionStorage } = {}) {
    super();
    this.#base = new URL(base);
    this.#storage = storage;
    try {
      this.#session = JSON.parse(storage.getItem(STORAGE_KEY));
    } catch {
      this.#session = null;
    }
    globalThis.addEventListener?.("online", () => this.reconnectNow());
  }

  /** Whether there are tokens; the broker may still refuse them. */
  get signedIn() {
    return this.#session !== null;
  }

  /** The tenant of the session, as it was given at log-in. */
  get tenant() {
    return this.#session?.tenant ?? null;
  }

  /** `connecting`, `online`, `offline` (will try again) or `closed`. */
  get state() {
    return this.#state;
  }

  // ---- tokens ----

  /** Fetches tokens for a password. @returns {Promise<void>} */
  async logIn(tenant, username, password) {
    const pair = await this.#http("POST", "/api/token/", { tenant, username, password });
    this.#keep({ tenant, ...pair });
  }

  /** Forgets the tokens, has the broker revoke them if it can be reached, and closes the socket. */
  logOut() {
    const refresh = this.#session?.refresh;
    this.#end("logged out");
    if (refresh) this.#http("POST", "/api/token/blacklist/", { refresh }).catch(() => {});
  }

  #keep({ tenant, access, refresh }) {
    const life = lifetime(access) * REFRESH_AT;
    this.#session = { tenant, access, refresh, renewAt: Date.now() + life };
    this.#storage.setItem(STORAGE_KEY, JSON.stringify(this.#session));
    this.#scheduleRenewal(life);
  }

  #scheduleRenewal(delay) {
    clearTimeout(this.#renewTimer);
    if (!this.#wanted) return;
    this.#renewTimer = setTimeout(async () => {
      try {
        await this.#refresh();
      } catch {
        // Refused ends the session in #refresh; anything else is tried again.
        if (this.#session) this.#scheduleRenewal(5_000 + Math.random() * 5_000);
      }
    }, Math.max(0, delay));
  }

  /** Fetches a new pair; at most one such request at a time, since a refresh token is good for one use. */
  #refresh() {
    this.#refreshing ??= (async () => {
      const before = this.#session;
      try {
        const pair = await this.#http("POST", "/api/token/refresh/", { refresh: before.refresh });
        if (this.#session !== before) throw new SwitchboardError({ name: "unauthorized", message: "logged out" });
        this.#keep({ refresh: before.refresh, ...pair, tenant: before.tenant });
        if (this.#state === "online") this.#transmit({ type: "auth.refresh", id: newId(), token: pair.access });
      } catch (error) {
        if ([400, 401, 403].includes(error.status) && this.#session === before) this.#end("your session has ended");
        throw error;
      } finally {
        this.#refreshing = null;
      }
    })();
    return this.#refreshing;
  }

  /** An access token that is not about to end. */
  async #access() {
    if (!this.#session) throw new SwitchboardError({ name: "unauthorized", message: "not logged in" });
    if (Date.now() >= this.#session.renewAt) await this.#refresh();
    return this.#session.access;
  }

  #end(reason) {
    this.disconnect();
    this.#session = null;
    this.#storage.removeItem(STORAGE_KEY);
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
    const token = await this.#access();
    try {
      return await this.#http(method, path, body, token);
    } catch (error) {
      if (error.status !== 401 || !this.#session) throw error;
      // Another request may have renewed it meanwhile.
      if (this.#session.access === token) await this.#refresh();
      return this.#http(method, path, body, this.#session.access);
    }
  }

  async #http(method, path, body, token) {
    const headers = { Accept: "application/json" };
    if (token) headers.Authorization = `Bearer ${token}`;
    if (body) headers["Content-Type"] = "application/json";
    const options = { method, headers, body: body && JSON.stringify(body), credentials: "omit", cache: "no-store" };
    let response;
    try {
      response = await fetch(new URL(path, this.#base), options);
    } catch {
      throw new SwitchboardError({ name: "network", message: "the broker cannot be reached", retryable: true });
    }
    const answer = await response.json().catch(() => null);
    if (response.ok) return answer;
    const fallback = { message: `the broker answered with status ${response.status}`, retryable: response.status >= 500 };
    throw new SwitchboardError(answer?.error ?? fallback, response.status);
  }

  // ---- the socket ----

  /** Opens the socket and keeps it open until `disconnect`. */
  connect() {
    if (this.#wanted) return;
    this.#wanted = true;
    this.#attempt = this.#authFailures = 0;
    if (this.#session) this.#scheduleRenewal(this.#session.renewAt - Date.now());
    this.#open();
  }

  /** Closes the socket and stays away. Sends without an answer wait for the next `connect`. */
  disconnect() {
    this.#wanted = false;
    clearTimeout(this.#renewTimer);
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
      token = await this.#access();
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
      // With another token the answer may be another; that is tried once.
      const renewable = [4000, 4001, 4005].includes(code) && this.#authFailures++ === 0;
      if (!renewable || !this.#session) return this.#end(reason || "the broker refused the connection");
      this.#session.renewAt = 0;
      return this.#retry(BACKOFF.soon, code, reason);
    }
    const ours = [1002, 1003, 1007, 1008, 1009].includes(code);
    const { soon, usual, slow } = BACKOFF;
    const pace = code >= 4200 && code < 4300 ? soon : ours || (code >= 4100 && code < 4200) ? slow : usual;
    // Position lost: what was missed cannot be sent, so the channel's state is asked for.
    if (code === 4203) for (const channel of this.#channels.values()) channel.resume = false;
    this.#retry(pace, code, reason);
  }

  #retry({ floor, base, cap }, code, reason) {
    const delay = floor + Math.random() * Math.min(cap, base * 2 ** this.#attempt);
    this.#attempt = Math.min(this.#attempt + 1, 16);
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
    } else if (error.name === "token_expired" && this.#session) {
      this.#refresh().catch(() => {});
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

/** How long a token lives, in milliseconds, by its own claims: the clocks of both sides need not agree. */
function lifetime(token) {
  try {
    const { iat, exp } = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    if (exp > iat) return (exp - iat) * 1_000;
  } catch {
    // Not a token that can be read; what follows is the broker's default.
  }
  return 300_000;
}

/** The path of a page's link, which is followed on our own broker whatever host it names. */
function pathOf(link, base) {
  const url = new URL(link, base);
  return url.pathname + url.search;
}
