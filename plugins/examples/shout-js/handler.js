/**
 * `shout`: stores what a member sends, in capitals.
 *
 *     client   {"type":"shout","id":"c1","text":"hello"}
 *     all      {"type":"shout","channel":"…","seq":7,"message":{"content":{"text":"HELLO!"},…}}
 *
 * The operator can configure what each text ends with: {"mark":"!!!"}.
 *
 * What the module keeps is a cache: the broker runs several instances of it and may end any of them at any time.
 */

const MAX_CHARS = 500;

let mark = "!";

/** The functions that the broker calls, named and typed as in the interface `handler` of the WIT. */
export const handler = {
  /** Describes the plugin. Called once per generation. */
  describe() {
    return {
      name: "shout-js",
      version: "0.1.0",
      // Durable: the sender relies on it being stored.
      kinds: [{ name: "shout", origin: "client", durability: "durable" }],
      watches: [],
      wants: [],
    };
  },

  /** Called once per instance, before its first event. The operator reads what it throws. */
  init(config) {
    mark = "!";
    if (config === "") return;
    let given;
    try {
      given = JSON.parse(config).mark;
    } catch (error) {
      throw error.message;
    }
    if (typeof given !== "string") throw "`mark` must be a string";
    mark = given;
  },

  /** Called for each event. It only returns effects: the broker applies all of them, or none. */
  handle(event) {
    const { text } = JSON.parse(event.payload);
    if (typeof text !== "string") throw { tag: "invalid", val: "`text` must be a string" };
    const length = [...text].length;
    if (length < 1 || length > MAX_CHARS) {
      throw { tag: "invalid", val: `\`text\` must be 1 to ${MAX_CHARS} characters` };
    }
    const content = JSON.stringify({ text: text.toUpperCase() + mark });
    return [{ tag: "store", val: { kind: "shout", content, replyTo: undefined, attachments: [] } }];
  },

  /** Called after a message of a kind in `watches` was stored. */
  stored() {
    return [];
  },
};
