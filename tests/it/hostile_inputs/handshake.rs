//! Upgrades to a socket that RFC 6455 does not allow, from pages that may not have one, or to what is no socket.

use super::Answer::{Close, Status};
use super::Case;
use super::Input::{Handshake, Open, Raw};
use super::Listener::{Clients, Operators};

/// A line of a good handshake, and what stands instead.
pub(super) const CASES: &[Case] = &[
    Case("no Upgrade", Clients, Handshake("Upgrade: websocket\r\n", ""), Status(400)),
    Case("an Upgrade to something else", Clients, Handshake("Upgrade: websocket\r\n", "Upgrade: h2c\r\n"), Status(400)),
    Case("no Connection", Clients, Handshake("Connection: Upgrade\r\n", ""), Status(400)),
    Case(
        "a Connection to keep",
        Clients,
        Handshake("Connection: Upgrade\r\n", "Connection: keep-alive\r\n"),
        Status(400),
    ),
    Case("an Upgrade in HTTP/1.0", Clients, Handshake("HTTP/1.1\r\n", "HTTP/1.0\r\n"), Status(400)),
    Case("no Host for a socket", Clients, Handshake("Host: localhost\r\n", ""), Status(400)),
    Case(
        "two Hosts for a socket",
        Clients,
        Handshake("Host: localhost\r\n", "Host: localhost\r\nHost: evil.example\r\n"),
        Status(400),
    ),
    Case("no version", Clients, Handshake("Sec-WebSocket-Version: 13\r\n", ""), Status(426)),
    Case("version 8", Clients, Handshake("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Version: 8\r\n"), Status(426)),
    Case(
        "version 14",
        Clients,
        Handshake("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Version: 14\r\n"),
        Status(426),
    ),
    Case(
        "a version that is no number",
        Clients,
        Handshake("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Version: x\r\n"),
        Status(426),
    ),
    Case("no key", Clients, Handshake("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), Status(400)),
    Case("an empty key", Clients, Handshake("dGhlIHNhbXBsZSBub25jZQ==", ""), Status(400)),
    Case(
        "a key that is no base64",
        Clients,
        Handshake("dGhlIHNhbXBsZSBub25jZQ==", "!!!!!!!!!!!!!!!!!!!!!!=="),
        Status(400),
    ),
    Case("a key of 15 bytes", Clients, Handshake("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j"), Status(400)),
    Case("a key of 17 bytes", Clients, Handshake("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZSE="), Status(400)),
    Case(
        "a key without its padding",
        Clients,
        Handshake("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ"),
        Status(400),
    ),
    Case(
        "two keys",
        Clients,
        Handshake("Sec-WebSocket-Key:", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Key:"),
        Status(400),
    ),
    Case(
        "the same key twice",
        Clients,
        Handshake("Sec-WebSocket-Key:", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key:"),
        Status(400),
    ),
    Case(
        "a foreign origin",
        Clients,
        Handshake("Host: localhost\r\n", "Host: localhost\r\nOrigin: https://evil.example\r\n"),
        Status(403),
    ),
    Case(
        "the origin null",
        Clients,
        Handshake("Host: localhost\r\n", "Host: localhost\r\nOrigin: null\r\n"),
        Status(403),
    ),
    Case(
        "an origin that begins like ours",
        Clients,
        Handshake("Host: localhost\r\n", "Host: localhost\r\nOrigin: http://localhost.evil.example\r\n"),
        Status(403),
    ),
    Case(
        "an origin with our host as its user",
        Clients,
        Handshake("Host: localhost\r\n", "Host: localhost\r\nOrigin: http://localhost@evil.example\r\n"),
        Status(403),
    ),
    Case(
        "our host at another port",
        Clients,
        Handshake("Host: localhost\r\n", "Host: localhost\r\nOrigin: http://localhost:81\r\n"),
        Status(403),
    ),
    Case("an empty origin", Clients, Handshake("Host: localhost\r\n", "Host: localhost\r\nOrigin: \r\n"), Status(403)),
    Case(
        "two origins",
        Clients,
        Handshake(
            "Host: localhost\r\n",
            "Host: localhost\r\nOrigin: http://localhost\r\nOrigin: https://evil.example\r\n",
        ),
        Status(400),
    ),
    Case("a POST for a socket", Clients, Handshake("GET ", "POST "), Status(405)),
    Case("a HEAD for a socket", Clients, Handshake("GET ", "HEAD "), Status(405)),
    Case("a socket at no path of one", Clients, Handshake("/ws/", "/ws/other/"), Status(404)),
    Case("a socket of no channel", Clients, Handshake("/ws/", "/ws/chat/"), Status(404)),
    Case("a socket with a step up", Clients, Handshake("/ws/", "/ws/chat/../../api/me/"), Status(404)),
    Case("a socket at a route of HTTP", Clients, Handshake("/ws/", "/api/me/"), Status(401)),
    Case("a token given twice", Clients, Handshake("/ws/", "/ws/?token={token}&token={token}"), Status(400)),
    Case(
        "a since given twice",
        Clients,
        Handshake("/ws/", "/ws/chat/{channel}/?token={token}&since=a:1&since=a:2"),
        Status(400),
    ),
    Case("a socket for operators", Operators, Handshake("/ws/", "/ws/"), Status(404)),
    Case("a socket for operators at a route", Operators, Handshake("/ws/", "/api/plugins/"), Status(401)),
    Case(
        "a page of another origin at a socket over HTTP",
        Clients,
        Raw("GET /ws/ HTTP/1.1\r\nHost: a\r\nOrigin: https://evil.example\r\n\r\n"),
        Status(400),
    ),
    Case("a token that is rubbish", Clients, Open("/ws/?token=rubbish"), Close(4000)),
    Case("an empty token", Clients, Open("/ws/?token="), Close(4000)),
    Case("a token with a broken escape", Clients, Open("/ws/?token=%zz"), Close(4000)),
    Case("a token with bytes of no text", Clients, Open("/ws/?token=%ff%fe"), Close(4000)),
    Case("the token of an operator", Clients, Open("/ws/?token={admin}"), Close(4000)),
    Case("a channel that is no id", Clients, Open("/ws/chat/lobby/?token={token}"), Close(4003)),
    Case("a channel with a quote", Clients, Open("/ws/chat/%27%20or%201=1--/?token={token}"), Close(4003)),
    Case("a channel of another tenant", Clients, Open("/ws/chat/{foreign}/?token={token}"), Close(4003)),
    Case(
        "a channel that nobody has",
        Clients,
        Open("/ws/chat/00000000-0000-7000-8000-000000000000/?token={token}"),
        Close(4003),
    ),
];
