"""The handler is a plain class, so its tests need no broker: see build.py."""

import json
import unittest
from types import SimpleNamespace

from componentize_py_types import Err
from handler import Handler
from wit_world.imports.types import Draft, Effect_Store, Failure_Invalid


def say(text):
    return Handler().handle(SimpleNamespace(kind="shout", payload=json.dumps({"type": "shout", "text": text})))


def kept(text):
    return [Effect_Store(Draft("shout", json.dumps({"text": text}), None, []))]


class Handling(unittest.TestCase):
    def setUp(self):
        Handler().init("")

    def refusal(self, call, *arguments):
        with self.assertRaises(Err) as raised:
            call(*arguments)
        return raised.exception.value

    def test_what_is_said_is_kept_in_capitals(self):
        self.assertEqual(say("hello"), kept("HELLO!"))

    def test_the_operator_sets_what_it_ends_with(self):
        Handler().init('{"mark":"?!"}')
        self.assertEqual(say("hello"), kept("HELLO?!"))
        self.assertEqual(self.refusal(Handler().init, '{"marc":"?!"}'), "`mark` must be a string")

    def test_a_wrong_frame_is_explained(self):
        for text in ["", "x" * 501]:
            self.assertEqual(self.refusal(say, text), Failure_Invalid("`text` must be 1 to 500 characters"))
        self.assertEqual(self.refusal(say, 7), Failure_Invalid("`text` must be a string"))


if __name__ == "__main__":
    unittest.main()
