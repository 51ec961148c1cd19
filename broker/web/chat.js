/**
 * The chat page: shows what the client hears and sends what the member types. It speaks to the broker through client.js
 * alone, and what people wrote reaches the page as text, never as markup.
 */

import { Switchboard, newId } from "/client.js";

const TYPING_EVERY = 3_000;
const TYPING_EXPIRES = 5_000;
const LIST_EVERY = 60_000;
/** Milliseconds between attempts to come back when the page is loaded while the broker is away: the first, and the most. */
const RESUME = { first: 1_000, most: 20_000 };
/** Messages of one sender closer than this stand together. */
const TOGETHER_WITHIN = 5 * 60_000;
const MAX_NOTICES = 30;
/** Channels that are followed without being open. */
const MAX_LIVE = 50;
/** How near to the end, in pixels, counts as being there. */
const NEAR = 40;

const $ = (id) => document.getElementById(id);
const client = new Switchboard();
/** Channel id → what is known of it; see `channelOf`. */
const channels = new Map();
let me = null;
let active = null;
let retryAt = 0;
/** Whether the newest message is kept in view. */
let atEnd = true;

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });

function make(tag, className = "", text = "", attributes = {}) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function button(text, act) {
  const element = make("button", "", text, { type: "button" });
  element.addEventListener("click", act);
  return element;
}

function channelOf(summary) {
  let channel = channels.get(summary.id);
  if (!channel) {
    channel = {
      id: summary.id, name: summary.name, unread: summary.unread_count ?? 0,
      /** seq → message; id → a message that is not stored yet; who came and went. */
      messages: new Map(), pending: new Map(), notices: [],
      /** user id → member; user id → seq up to which it has read; user id → who types. */
      members: new Map(), memberCount: summary.member_count ?? 0, reads: new Map(), typists: new Map(),
      more: true, loading: false, trouble: "", markedRead: 0, draft: "", typingSent: 0, elements: new Map(),
    };
    channels.set(summary.id, channel);
  }
  channel.name = summary.name;
  return channel;
}

// ---- logging in and out ----

function showLogin(reason = "") {
  me = active = null;
  channels.clear();
  for (const list of ["channels", "messages", "members"]) $(list).replaceChildren();
  if ($("make").open) $("make").close();
  $("app").hidden = $("waiting").hidden = true;
  $("login").hidden = false;
  $("login-error").textContent = reason;
  document.title = "Switchboard";
  const fields = $("login-form").elements;
  const given = new URLSearchParams(location.hash.slice(1));
  fields.tenant.value ||= given.get("tenant") ?? "";
  fields.username.value ||= given.get("user") ?? "";
  (["tenant", "username"].map((name) => fields[name]).find((field) => !field.value) ?? fields.password).focus();
}

async function enter() {
  me = await client.me();
  $("my-name").textContent = me.username;
  $("my-tenant").textContent = me.tenant;
  $("login").hidden = $("waiting").hidden = true;
  $("app").hidden = false;
  $("app").dataset.view = "list";
  renderHeader();
  client.connect();
  await loadChannels();
}

/** Comes back after a reload. A broker that cannot be asked just then is no reason to log in again. */
async function resume() {
  for (let wait = RESUME.first; client.signedIn; wait = Math.min(2 * wait, RESUME.most)) {
    try {
      return await enter();
    } catch (error) {
      if (!client.signedIn) return;
      if (!error.retryable) return showLogin(sentence(error.message));
      $("waiting-text").textContent = `${sentence(error.message)} Trying again…`;
      $("waiting").hidden = false;
    }
    await new Promise((wake) => {
      const timer = setTimeout(wake, wait * (0.5 + Math.random()));
      $("waiting-retry").onclick = $("waiting-out").onclick = window.ononline = ({ target }) => {
        clearTimeout(timer);
        if (target === $("waiting-out")) client.logOut();
        wake();
      };
    });
  }
}

async function submitting(form, errorId, act) {
  const send = form.querySelector(".primary");
  send.disabled = true;
  $(errorId).textContent = "";
  for (const field of form.elements) field.removeAttribute("aria-invalid");
  try {
    await act();
  } catch (error) {
    $(errorId).textContent = sentence(error.message);
    form.elements[error.field]?.setAttribute?.("aria-invalid", "true");
  } finally {
    send.disabled = false;
  }
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

$("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const { tenant, username, password } = event.target.elements;
  submitting(event.target, "login-error", async () => {
    await client.logIn(tenant.value.trim(), username.value.trim(), password.value).catch((error) => {
      // Which of them it is, the broker tells nobody.
      throw error.status === 401 ? new Error("the tenant, username or password is wrong") : error;
    });
    password.value = "";
    await enter();
  });
});
$("log-out").addEventListener("click", () => client.logOut());
client.addEventListener("client:signed-out", ({ detail }) => {
  showLogin(detail.reason === "logged out" ? "" : sentence(detail.reason));
});

// ---- the list of channels ----

async function loadChannels() {
  if (!me) return;
  try {
    const found = await client.channels();
    if (!me) return;
    const ids = new Set(found.map((summary) => summary.id));
    for (const id of [...channels.keys()].filter((id) => !ids.has(id))) dropChannel(id);
    for (const summary of found) {
      const channel = channelOf(summary);
      if (channel !== active || !document.hasFocus()) channel.unread = summary.unread_count;
    }
    for (const { id } of found.slice(0, MAX_LIVE)) client.subscribe(id);
    $("side-error").textContent = "";
    if (!active && channels.size > 0) openChannel(channels.values().next().value);
  } catch (error) {
    if (me) $("side-error").textContent = sentence(error.message);
  }
  renderList();
}

function dropChannel(id) {
  client.unsubscribe(id);
  channels.delete(id);
  if (active?.id === id) {
    active = null;
    $("messages").replaceChildren();
    $("app").dataset.view = "list";
    renderHeader();
  }
}

function renderList() {
  const rows = [...channels.values()].map((channel) => {
    let row = channel.row;
    if (!row) {
      row = channel.row = make("li");
      row.append(button("", () => openChannel(channel, true)));
    }
    const [name, badge] = [make("span", "name", channel.name), make("span", "badge", String(channel.unread))];
    badge.append(make("span", "unseen", " unread"));
    row.firstChild.replaceChildren(name, ...(channel.unread > 0 ? [badge] : []));
    if (channel === active) row.firstChild.setAttribute("aria-current", "true");
    else row.firstChild.removeAttribute("aria-current");
    return row;
  });
  place($("channels"), rows);
  $("no-channels").hidden = rows.length > 0;
  const unread = [...channels.values()].reduce((sum, channel) => sum + channel.unread, 0);
  document.title = unread > 0 ? `(${unread}) Switchboard` : "Switchboard";
}

function openChannel(channel, byHand = false) {
  if (active !== channel) {
    stopTyping();
    if (active) active.draft = $("text").value;
    active = channel;
    client.subscribe(channel.id);
    atEnd = true;
    $("people").open = false;
    $("messages").replaceChildren();
    $("text").value = channel.draft;
    fitText();
    renderHeader();
    renderMessages();
    renderTyping();
  }
  renderList();
  if (byHand) {
    $("app").dataset.view = "chat";
    fitText();
    toEnd();
    $("text").focus();
  }
  markRead();
}

function renderHeader() {
  $("channel-name").textContent = active?.name ?? "No channel";
  $("people").hidden = !active;
  $("composer").hidden = !active;
  if (!active) return;
  const members = [...active.members.values()];
  members.sort((a, b) => b.online - a.online || a.username.localeCompare(b.username));
  const here = members.filter((member) => member.online).length;
  $("people-count").textContent = `${here} of ${Math.max(active.memberCount, members.length)} online`;
  $("members").replaceChildren(...members.map((member) => {
    const item = make("li");
    const name = member.username + (member.id === me.id ? " (you)" : "");
    item.append(make("span", member.online ? "dot here" : "dot"), make("span", "", name));
    item.append(make("span", "unseen", member.online ? "online" : "offline"));
    return item;
  }));
}

$("back").addEventListener("click", () => {
  $("app").dataset.view = "list";
  active?.row?.firstChild.focus();
});

$("new-channel").addEventListener("click", () => {
  $("make-form").reset();
  $("make-error").textContent = "";
  const known = new Map([...channels.values()].flatMap((channel) => [...channel.members]));
  known.delete(me.id);
  const people = [...known.values()].sort((a, b) => a.username.localeCompare(b.username)).map((member) => {
    const label = make("label");
    const box = make("input", "", "", { type: "checkbox", name: "member", value: member.id });
    label.append(box, make("span", "", member.username));
    return label;
  });
  $("make-people").hidden = people.length === 0;
  $("make-people").replaceChildren($("make-people").firstElementChild, ...people);
  $("make").showModal();
});
$("make-cancel").addEventListener("click", () => $("make").close());
$("make-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  submitting(form, "make-error", async () => {
    const ticked = [...form.querySelectorAll("input[name=member]:checked")].map((box) => box.value);
    const typed = form.elements.others.value.split(",").map((id) => id.trim()).filter(Boolean);
    const made = await client.createChannel(form.elements.name.value.trim(), [...new Set([...ticked, ...typed])]);
    $("make").close();
    openChannel(channelOf(made), true);
  });
});

// ---- what the broker says ----

client.addEventListener("channel.state", ({ detail: frame }) => {
  const channel = channelOf(frame.channel);
  const first = frame.messages[0]?.seq ?? frame.seq + 1;
  // Beyond a hole nothing is shown: scrolling up loads it in order.
  for (const seq of [...channel.messages.keys()]) {
    if (frame.renumbered || (frame.gap && seq < first)) channel.messages.delete(seq);
  }
  if (frame.renumbered) {
    channel.reads.clear();
    channel.markedRead = 0;
  }
  if (frame.renumbered || frame.gap || channel.messages.size === 0) channel.more = first > 1;
  channel.memberCount = frame.channel.member_count;
  channel.members = new Map(frame.members.map((member) => [member.id, member]));
  // The state is from just before we came in.
  if (channel.members.has(me.id)) channel.members.get(me.id).online = true;
  for (const message of frame.messages) addMessage(channel, message);
  refresh(channel);
  renderList();
});

// What was missed has come as messages; who came and went meanwhile has not.
client.addEventListener("subscribed", async ({ detail: frame }) => {
  const channel = channels.get(frame.channel);
  if (!channel || !frame.recovered) return;
  const present = await client.present(channel.id).catch(() => null);
  if (!present) return;
  const here = new Set(present.map((user) => user.id));
  for (const user of present) {
    if (!channel.members.has(user.id)) channel.members.set(user.id, { ...user, role: "member" });
  }
  for (const member of channel.members.values()) member.online = member.id === me.id || here.has(member.id);
  refresh(channel);
});

client.addEventListener("client:durable", ({ detail: frame }) => {
  const channel = channels.get(frame.channel);
  if (!channel) return;
  const { sender } = frame.message;
  if (frame.client_id) channel.pending.delete(frame.client_id);
  addMessage(channel, frame.message);
  clearTimeout(channel.typists.get(sender.id)?.timer);
  channel.typists.delete(sender.id);
  refresh(channel);
  if (sender.id === me.id) return;
  if (channel === active) announce(`${sender.username}: ${textOf(frame.message)}`);
  if (channel.markedRead < frame.seq) {
    channel.unread += 1;
    renderList();
  }
});

client.addEventListener("typing", ({ detail: { channel: id, user, is_typing: typing } }) => {
  const channel = channels.get(id);
  if (!channel || user.id === me.id) return;
  clearTimeout(channel.typists.get(user.id)?.timer);
  const stop = () => {
    channel.typists.delete(user.id);
    renderTyping();
  };
  if (!typing) return stop();
  channel.typists.set(user.id, { name: user.username, timer: setTimeout(stop, TYPING_EXPIRES) });
  renderTyping();
});

client.addEventListener("message.read", ({ detail: frame }) => {
  const channel = channels.get(frame.channel);
  if (!channel) return;
  const known = [...channel.messages.values()].find((message) => message.id === frame.message_id);
  const seq = frame.seq ?? known?.seq ?? 0;
  channel.reads.set(frame.user.id, Math.max(channel.reads.get(frame.user.id) ?? 0, seq));
  if (frame.user.id === me.id && seq >= newestOfOthers(channel)) {
    // Perhaps read in another window.
    channel.markedRead = Math.max(channel.markedRead, seq);
    channel.unread = 0;
    renderList();
  }
  if (channel === active) renderMessages();
});

function presence(online) {
  return ({ detail: { channel: id, user } }) => {
    const channel = channels.get(id);
    if (!channel || user.id === me.id) return;
    const member = channel.members.get(user.id) ?? { ...user, role: "member", online: !online };
    channel.members.set(user.id, member);
    if (member.online === online) return;
    member.online = online;
    const after = Math.max(0, ...channel.messages.keys());
    // Someone whose connection flickers takes one line, not ten.
    channel.notices = channel.notices.filter((notice) => notice.user !== user.id || notice.after !== after);
    const text = `${user.username} ${online ? "joined" : "left"}`;
    channel.notices.push({ key: `notice ${newId()}`, user: user.id, after, at: new Date(), text });
    if (channel.notices.length > MAX_NOTICES) channel.notices.shift();
    if (!online) channel.typists.delete(user.id);
    refresh(channel);
  };
}
client.addEventListener("user.join", presence(true));
client.addEventListener("user.leave", presence(false));

client.addEventListener("client:refused", ({ detail: { channel: id, error } }) => {
  const channel = channels.get(id);
  if (!channel) return;
  $("side-error").textContent = sentence(`${channel.name}: ${error.message}`);
  // A channel beyond the socket's limit is still ours, only not live.
  if (["unknown_channel", "denied"].includes(error.name)) dropChannel(id);
  renderList();
});

client.addEventListener("client:connection", ({ detail }) => {
  const { state, reason } = detail;
  retryAt = detail.retryAt;
  $("banner").hidden = state === "online" || state === "closed";
  const offline = reason ? `Offline (${reason}), reconnecting` : "Offline, reconnecting";
  $("banner-text").textContent = state === "offline" ? offline : "Connecting…";
  $("banner-retry").hidden = state !== "offline";
  showWait();
  if (state === "offline") {
    for (const channel of channels.values()) {
      for (const { timer } of channel.typists.values()) clearTimeout(timer);
      channel.typists.clear();
    }
    renderTyping();
  } else if (state === "online" && channels.size > 0) {
    loadChannels();
  }
});
$("banner-retry").addEventListener("click", () => client.reconnectNow());

function showWait() {
  const wait = Math.max(0, Math.ceil((retryAt - Date.now()) / 1_000));
  $("banner-wait").textContent = retryAt > 0 ? `in ${wait} s` : "";
}
setInterval(() => retryAt > 0 && showWait(), 500);

function addMessage(channel, message) {
  channel.messages.set(message.seq, message);
  for (const id of message.read_by ?? []) {
    channel.reads.set(id, Math.max(channel.reads.get(id) ?? 0, message.seq));
    if (id === me.id) channel.markedRead = Math.max(channel.markedRead, message.seq);
  }
}

function refresh(channel) {
  if (channel !== active) return;
  renderHeader();
  renderMessages();
  renderTyping();
  markRead();
  if ($("scroller").scrollHeight <= $("scroller").clientHeight) loadOlder();
}

function announce(text) {
  $("announcer").textContent = text;
}

// ---- the messages ----

function textOf({ content, deleted_at: deleted, kind = "chat.message" }) {
  if (deleted) return "This message was deleted.";
  const text = typeof content === "string" ? content : content?.text;
  return typeof text === "string" ? text : `${kind}: ${JSON.stringify(content)}`;
}

/** Makes the children of a list these, touching only what differs, so that focus and selection stay. */
function place(list, wanted) {
  const keep = new Set(wanted);
  for (const child of [...list.children]) if (!keep.has(child)) child.remove();
  wanted.forEach((element, index) => {
    if (list.children[index] !== element) list.insertBefore(element, list.children[index] ?? null);
  });
}

function renderMessages() {
  const channel = active;
  if (!channel) return;
  const scroller = $("scroller");
  const fromEnd = scroller.scrollHeight - scroller.scrollTop;
  const newest = channel.shown ?? 0;
  const seqs = [...channel.messages.keys()].sort((a, b) => a - b);
  const entries = seqs.map((seq) => ({ key: `seq ${seq}`, after: seq, message: channel.messages.get(seq) }));
  const notices = channel.notices.filter((notice) => notice.after >= (seqs[0] ?? 0));
  const pending = [...channel.pending.values()].map((entry) => ({ key: `own ${entry.id}`, after: Infinity, entry }));
  // Sorting is stable: a notice comes after the message it came after.
  const items = [...entries, ...notices, ...pending].sort((a, b) => a.after - b.after);
  const readers = readersBySeq(channel, seqs);
  const rows = [];
  const elements = new Map();
  let day = "";
  let previous = null;
  for (const item of items) {
    const at = new Date(item.message?.created_at ?? item.entry?.at ?? item.at);
    const today = calendar.format(at);
    if (today !== day) {
      rows.push(elementFor(channel, elements, `day ${item.key}`, () => make("li", "day", today)));
      previous = null;
    }
    day = today;
    const row = elementFor(channel, elements, item.key, () => (item.text ? make("li", "notice", item.text) : messageRow()));
    rows.push(row);
    if (item.text) {
      previous = null;
      continue;
    }
    const sender = item.message?.sender ?? me;
    const follows = previous?.sender === sender.id && at - previous.at < TOGETHER_WITHIN;
    fillRow(row, channel, item, { sender, at, follows, readers: readers.get(item.message?.seq) ?? [] });
    previous = { sender: sender.id, at };
  }
  channel.elements = elements;
  place($("messages"), rows);
  $("older").hidden = !channel.loading && !channel.trouble && (channel.more || seqs.length === 0);
  $("older").textContent = channel.trouble || (channel.loading ? "Loading…" : "This is where it begins.");
  channel.shown = seqs.at(-1) ?? 0;
  const grewAbove = seqs[0] < channel.shownFirst;
  channel.shownFirst = seqs[0];
  if (atEnd) toEnd();
  else if (grewAbove) scroller.scrollTop = scroller.scrollHeight - fromEnd;
  else if (newest > 0 && channel.shown > newest) $("to-newest").hidden = false;
}

function elementFor(channel, elements, key, create) {
  const element = channel.elements.get(key) ?? create();
  elements.set(key, element);
  return element;
}

function messageRow() {
  const row = make("li", "message");
  row.append(make("span", "sender"), make("div", "bubble"), make("div", "meta"), make("div", "readers"));
  return row;
}

function fillRow(row, channel, { message, entry }, { sender, at, follows, readers }) {
  const own = sender.id === me.id;
  // An unchanged row is left alone: someone may be selecting in it.
  const text = message ? textOf(message) : entry.text;
  const face = JSON.stringify([text, follows, readers, entry?.state, entry?.error?.message, message?.edited_at]);
  if (row.face === face) return;
  row.face = face;
  const [name, bubble, meta, marks] = row.children;
  const gone = Boolean(message?.deleted_at);
  const classes = { own, follows, gone, pending: entry?.state === "pending", failed: entry?.state === "failed" };
  for (const [className, on] of Object.entries(classes)) row.classList.toggle(className, on);
  name.textContent = sender.username;
  bubble.textContent = text;
  const time = make("time", "", clock.format(at), { datetime: at.toISOString(), title: at.toLocaleString() });
  meta.replaceChildren(time);
  if (message?.edited_at) meta.append(" · edited");
  if (message && own) meta.append(" ", make("span", "", "✓", { title: "stored", role: "img", "aria-label": "stored" }));
  if (entry?.state === "pending") meta.append(" · sending…");
  if (entry?.state === "failed") {
    meta.append(` · Not sent: ${entry.error.message}`);
    if (entry.error.retryable) meta.append(button("Retry", () => deliver(channel, entry)));
    else meta.append(button("Edit", () => takeBack(channel, entry)));
    meta.append(button("Discard", () => discard(channel, entry)));
  }
  const more = readers.length > 4 ? ` and ${readers.length - 3} more` : "";
  const names = more ? readers.slice(0, 3) : readers;
  marks.textContent = readers.length > 0 ? `Read by ${names.join(", ")}${more}` : "";
}

/** Each reader stands at the newest message it has read, which says the same of all before. */
function readersBySeq(channel, seqs) {
  const names = new Map([...channel.members.values()].map((member) => [member.id, member.username]));
  const bySeq = new Map();
  for (const [id, upTo] of channel.reads) {
    const seq = seqs.findLast((candidate) => candidate <= upTo);
    if (id === me.id || seq === undefined || channel.messages.get(seq).sender.id === id) continue;
    bySeq.set(seq, [...(bySeq.get(seq) ?? []), names.get(id) ?? "someone"].sort());
  }
  return bySeq;
}

async function loadOlder() {
  const channel = active;
  if (!channel || channel.loading || !channel.more || channel.messages.size === 0) return;
  channel.loading = true;
  channel.trouble = "";
  renderMessages();
  try {
    const before = Math.min(...channel.messages.keys());
    const { messages, more } = await client.history(channel.id, before);
    // After a gap or a new numbering the page no longer joins what is shown.
    if (before === Math.min(...channel.messages.keys())) {
      for (const message of messages) addMessage(channel, message);
      channel.more = more;
    }
  } catch (error) {
    channel.trouble = `Older messages could not be loaded: ${error.message}`;
  }
  channel.loading = false;
  if (channel === active) renderMessages();
}

function toEnd() {
  $("scroller").scrollTop = $("scroller").scrollHeight;
  $("to-newest").hidden = true;
}

$("scroller").addEventListener("scroll", () => {
  const { scrollTop, scrollHeight, clientHeight } = $("scroller");
  atEnd = scrollHeight - scrollTop - clientHeight < NEAR;
  if (atEnd) {
    $("to-newest").hidden = true;
    markRead();
  }
  if (scrollTop < NEAR && scrollHeight > clientHeight) loadOlder();
});
$("to-newest").addEventListener("click", () => {
  toEnd();
  $("text").focus();
});
new ResizeObserver(() => {
  if (atEnd) toEnd();
}).observe($("scroller"));

function newestOfOthers(channel) {
  let newest = 0;
  for (const [seq, { sender }] of channel.messages) if (sender.id !== me.id && seq > newest) newest = seq;
  return newest;
}

/** Says that everything has been read, when it is on the screen of someone who is looking. */
function markRead() {
  const looking = document.hasFocus() && document.visibilityState === "visible" && $("chat").offsetParent !== null;
  if (!active || !atEnd || !looking) return;
  const newest = newestOfOthers(active);
  if (newest > active.markedRead) {
    if (!client.markRead(active.id, active.messages.get(newest).id)) return;
    active.markedRead = newest;
  }
  if (active.unread > 0) {
    active.unread = 0;
    renderList();
  }
}
// The state of a channel comes before it can be written to.
client.addEventListener("subscribed", markRead);
window.addEventListener("focus", () => {
  markRead();
  loadChannels();
});
document.addEventListener("visibilitychange", markRead);
setInterval(() => document.visibilityState === "visible" && client.state === "online" && loadChannels(), LIST_EVERY);

// ---- writing ----

function fitText() {
  const text = $("text");
  text.style.height = "auto";
  // What is not shown has no height.
  if (text.scrollHeight > 0) text.style.height = `${text.scrollHeight + 2}px`;
}

$("text").addEventListener("input", () => {
  fitText();
  if (!active) return;
  if ($("text").value.trim() === "") stopTyping();
  else if (Date.now() - active.typingSent > TYPING_EVERY) {
    active.typingSent = Date.now();
    client.typing(active.id, true);
  }
});
$("text").addEventListener("blur", stopTyping);
$("text").addEventListener("keydown", (event) => {
  // While an input method composes, Enter chooses a word.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submitText();
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  submitText();
  $("text").focus();
});

function stopTyping() {
  if (active && active.typingSent > 0) client.typing(active.id, false);
  if (active) active.typingSent = 0;
}

function submitText() {
  const text = $("text").value.trim();
  if (!active || text === "") return;
  stopTyping();
  $("text").value = "";
  fitText();
  atEnd = true;
  deliver(active, { id: newId(), text, at: new Date() });
}

/** Sends, or sends again under the same id, so that what was stored after all is not stored twice. */
async function deliver(channel, entry) {
  channel.pending.set(entry.id, Object.assign(entry, { state: "pending", error: null }));
  refresh(channel);
  try {
    const ack = await client.send(channel.id, entry.text, entry.id);
    channel.pending.delete(entry.id);
    const oldest = Math.min(...channel.messages.keys());
    if (!channel.messages.has(ack.seq) && (ack.seq > oldest || oldest === Infinity)) {
      // The echo may be slower than the ack. Before the oldest there may be a hole, which scrolling up loads in order.
      const { message_id: id, seq, created_at } = ack;
      addMessage(channel, { id, seq, sender: me, content: entry.text, created_at, read_by: [] });
    }
  } catch (error) {
    if (channel.pending.has(entry.id)) Object.assign(entry, { state: "failed", error });
    if (channel === active) announce(`Not sent: ${error.message}`);
  }
  refresh(channel);
}

function discard(channel, entry) {
  channel.pending.delete(entry.id);
  refresh(channel);
  $("text").focus();
}

function takeBack(channel, entry) {
  $("text").value = [entry.text, $("text").value].filter(Boolean).join("\n");
  fitText();
  discard(channel, entry);
}

function renderTyping() {
  const names = [...(active?.typists.values() ?? [])].map((typist) => typist.name);
  const who = names.length > 2 ? "Several people" : names.join(" and ");
  $("typing").textContent = names.length === 0 ? "" : `${who} ${names.length === 1 ? "is" : "are"} typing…`;
}

// ---- start ----

if (client.signedIn) resume();
else showLogin();
