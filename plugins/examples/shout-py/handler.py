"""`shout`: stores what a member sends, in capitals.

    client   {"type":"shout","id":"c1","text":"hello"}
    all      {"type":"shout","channel":"…","seq":7,"message":{"content":{"text":"HELLO!"},…}}

The operator can configure what each text ends with: {"mark":"!!!"}.

`wit_world` is made of the WIT by the build (see README.md).
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.handler import Descriptor, Durability, KindSpec, Origin
from wit_world.imports.types import Draft, Effect_Store, Failure_Invalid

MAX_CHARS = 500


class Handler(exports.Handler):
    """The functions that the broker calls, named and typed as in the interface `handler` of the WIT.

    What it keeps is a cache: the broker runs several instances of it and may end any of them at any time.
    """

    mark = "!"

    def describe(self):
        """Describes the plugin. Called once per generation."""
        return Descriptor(
            name="shout-py",
            version="0.1.0",
            # Durable: the sender relies on it being stored.
            kinds=[KindSpec(name="shout", origin=Origin.CLIENT, durability=Durability.DURABLE)],
            watches=[],
            wants=[],
        )

    def init(self, config):
        """Called once per instance, before its first event. The operator reads an error."""
        Handler.mark = "!"
        if not config:
            return
        try:
            mark = json.loads(config).get("mark")
        except ValueError as error:
            raise Err(str(error))
        if not isinstance(mark, str):
            raise Err("`mark` must be a string")
        Handler.mark = mark

    def handle(self, event):
        """Called for each event. It only returns effects: the broker applies all of them, or none."""
        text = json.loads(event.payload).get("text")
        if not isinstance(text, str):
            raise Err(Failure_Invalid("`text` must be a string"))
        if not 1 <= len(text) <= MAX_CHARS:
            raise Err(Failure_Invalid(f"`text` must be 1 to {MAX_CHARS} characters"))
        content = json.dumps({"text": text.upper() + Handler.mark})
        return [Effect_Store(Draft(kind="shout", content=content, reply_to=None, attachments=[]))]

    def stored(self, message, context):
        """Called after a message of a kind in `watches` was stored."""
        return []
