//! Requests that are none: lines, headers, lengths and chunks. The framing of RFC 9112 leaves no choice, since a proxy in
//! front that chooses otherwise takes a part of one request for another.

use super::Answer::{End, Only, Status};
use super::Input::{Bytes, Get, Long, Raw};
use super::Listener::{Clients, Operators};
use super::{Case, Scene};

pub(super) const LINES: &[Case] = &[
    Case("a line of rubbish", Clients, Raw("rubbish\r\n\r\n"), Only(400)),
    Case("a line without a path", Clients, Raw("GET HTTP/1.1\r\nHost: a\r\n\r\n"), Only(400)),
    Case("a line without a version", Clients, Raw("GET /livez\r\nHost: a\r\n\r\n"), Only(400)),
    Case("two spaces in the line", Clients, Raw("GET  /livez HTTP/1.1\r\nHost: a\r\n\r\n"), Only(400)),
    Case("a space in the path", Clients, Raw("GET /li vez HTTP/1.1\r\nHost: a\r\n\r\n"), Only(400)),
    Case("a tab for a space", Clients, Raw("GET\t/livez\tHTTP/1.1\r\nHost: a\r\n\r\n"), Only(400)),
    Case("a version that is none", Clients, Raw("GET /livez HTTP/9.9\r\nHost: a\r\n\r\n"), Only(400)),
    Case("a version in small letters", Clients, Raw("GET /livez http/1.1\r\nHost: a\r\n\r\n"), Only(400)),
    Case("another protocol", Clients, Raw("GET /livez RTSP/1.0\r\nHost: a\r\n\r\n"), Only(400)),
    Case("the preface of HTTP/2", Clients, Raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), End),
    Case("a greeting of TLS", Clients, Bytes(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), Only(400)),
    Case("a NUL in the path", Clients, Bytes(b"GET /li\x00vez HTTP/1.1\r\nHost: a\r\n\r\n"), Only(400)),
    Case("a byte of no text in the method", Clients, Bytes(b"G\xffT /livez HTTP/1.1\r\nHost: a\r\n\r\n"), Only(400)),
    Case("a colon in the method", Clients, Raw("GE:T /livez HTTP/1.1\r\nHost: a\r\n\r\n"), Only(400)),
    Case("a path without a slash", Clients, Raw("GET livez HTTP/1.1\r\nHost: a\r\n\r\n"), Status(404)),
    Case("a path of 30 KiB", Clients, Long(long_path), Status(404)),
    Case("a path of 80 KiB", Clients, Long(longest_path), Only(431)),
    Case("a method that nobody has", Clients, Raw("BREW /livez HTTP/1.1\r\nHost: a\r\n\r\n"), Status(405)),
    Case("a method in small letters", Clients, Raw("get /livez HTTP/1.1\r\nHost: a\r\n\r\n"), Status(405)),
    Case("TRACE", Clients, Raw("TRACE /livez HTTP/1.1\r\nHost: a\r\n\r\n"), Status(405)),
    Case("a tunnel", Clients, Raw("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"), Status(404)),
    Case("a star", Clients, Raw("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), Status(404)),
    Case("rubbish to operators", Operators, Raw("rubbish\r\n\r\n"), Only(400)),
    Case(
        "a greeting of TLS to operators",
        Operators,
        Bytes(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        Only(400),
    ),
    Case("a path of 80 KiB to operators", Operators, Long(longest_path), Only(431)),
];

pub(super) const HEADERS: &[Case] = &[
    Case("no Host", Clients, Raw("GET /livez HTTP/1.1\r\n\r\n"), Status(400)),
    Case("two Hosts", Clients, Raw("GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), Status(400)),
    Case("the same Host twice", Clients, Raw("GET /livez HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), Status(400)),
    Case("a Host with a space", Clients, Raw("GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n"), Status(400)),
    Case("a Host with a path", Clients, Raw("GET /livez HTTP/1.1\r\nHost: a/b\r\n\r\n"), Status(400)),
    Case("a Host with a user", Clients, Raw("GET /livez HTTP/1.1\r\nHost: u@a\r\n\r\n"), Status(400)),
    Case("a Host with a port of letters", Clients, Raw("GET /livez HTTP/1.1\r\nHost: a:b\r\n\r\n"), Status(400)),
    Case("a list of Hosts", Clients, Raw("GET /livez HTTP/1.1\r\nHost: a, b\r\n\r\n"), Status(400)),
    Case("a Host that is no text", Clients, Bytes(b"GET /livez HTTP/1.1\r\nHost: \xff\r\n\r\n"), Status(400)),
    Case("no Host to operators", Operators, Raw("GET /livez HTTP/1.1\r\n\r\n"), Status(400)),
    Case("two Hosts to operators", Operators, Raw("GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), Status(400)),
    Case("a header without a colon", Clients, Get("/livez", "Rubbish\r\n"), Only(400)),
    Case("a header without a name", Clients, Get("/livez", ": x\r\n"), Only(400)),
    Case("a space before the colon", Clients, Get("/livez", "X-A : x\r\n"), Only(400)),
    Case("a folded header", Clients, Get("/livez", "X-A: x\r\n y\r\n"), Only(400)),
    Case("a space before the first header", Clients, Raw("GET /livez HTTP/1.1\r\n Host: a\r\n\r\n"), Only(400)),
    Case("a NUL in a header", Clients, Bytes(b"GET /livez HTTP/1.1\r\nHost: a\r\nX-A: \x00\r\n\r\n"), Only(400)),
    Case("a bare CR in a header", Clients, Get("/livez", "X-A: x\ry\r\n"), Only(400)),
    Case("a name in brackets", Clients, Get("/livez", "X[A]: x\r\n"), Only(400)),
    Case("a hundred headers and more", Clients, Long(many_headers), Only(431)),
    Case("a header of 80 KiB", Clients, Long(long_header), Only(431)),
    Case("an expectation that is none", Clients, Get("/livez", "Expect: 200-ok\r\n"), Status(200)),
    Case(
        "an upgrade to HTTP/2",
        Clients,
        Get("/livez", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"),
        Status(200),
    ),
    Case("a range", Clients, Get("/livez", "Range: bytes=0-0,0-0,0-0,0-0\r\n"), Status(200)),
    Case("a method of another header", Clients, Get("/livez", "X-HTTP-Method-Override: DELETE\r\n"), Status(200)),
    Case("metrics for clients", Clients, Get("/metrics", ""), Status(404)),
];

/// Of a length beside chunks the chunks count, and nothing more is read from the connection, as RFC 9112 asks in section 6.3.
pub(super) const FRAMING: &[Case] = &[
    Case(
        "a length and chunks",
        Clients,
        Raw(
            "POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        Only(415),
    ),
    Case(
        "chunks and a length",
        Clients,
        Raw(
            "POST /api/token/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        Only(415),
    ),
    Case(
        "a length of nothing and chunks",
        Clients,
        Raw(
            "POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        Only(415),
    ),
    Case(
        "a GET with a length and chunks",
        Clients,
        Raw("GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Only(200),
    ),
    Case(
        "two lengths",
        Clients,
        Raw("POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nGET /"),
        Only(400),
    ),
    Case(
        "a list of lengths",
        Clients,
        Raw("POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 5\r\n\r\nGET /"),
        Only(400),
    ),
    Case(
        "a length below zero",
        Clients,
        Raw("POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
        Only(400),
    ),
    Case(
        "a length with a sign",
        Clients,
        Raw("POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n{}"),
        Only(400),
    ),
    Case(
        "a length in hex",
        Clients,
        Raw("POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0x2\r\n\r\n{}"),
        Only(400),
    ),
    Case(
        "a length with a space",
        Clients,
        Raw("POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1 2\r\n\r\n{}"),
        Only(400),
    ),
    Case(
        "a length that is empty",
        Clients,
        Raw("POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n"),
        Only(400),
    ),
    Case(
        "a length beyond 64 bits",
        Clients,
        Raw("POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        Only(400),
    ),
    Case(
        "a length of exabytes",
        Clients,
        Raw(
            "POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 999999999999999999\r\n\r\n",
        ),
        Status(413),
    ),
    Case(
        "an encoding that nobody knows",
        Clients,
        Raw("POST /api/token/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"),
        Only(400),
    ),
    Case(
        "chunked before another encoding",
        Clients,
        Raw("POST /api/token/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        Only(400),
    ),
    Case(
        "chunked in disguise",
        Clients,
        Raw("POST /api/token/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        Only(400),
    ),
    Case(
        "an encoding with a tab before its colon",
        Clients,
        Raw("POST /api/token/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"),
        Only(400),
    ),
    Case(
        "an encoding that is folded",
        Clients,
        Raw("POST /api/token/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
        Only(400),
    ),
    Case(
        "chunks in HTTP/1.0",
        Clients,
        Raw("POST /api/token/ HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Only(400),
    ),
    Case(
        "a chunk whose size is no number",
        Clients,
        Raw(
            "POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        ),
        Only(400),
    ),
    Case(
        "a chunk whose size is below zero",
        Clients,
        Raw(
            "POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        ),
        Only(400),
    ),
    Case(
        "a chunk whose size has a prefix",
        Clients,
        Raw(
            "POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
        ),
        Only(400),
    ),
    Case(
        "a chunk whose size is beyond 64 bits",
        Clients,
        Raw(
            "POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        ),
        Only(400),
    ),
    Case(
        "a chunk that is longer than it says",
        Clients,
        Raw(
            "POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
        ),
        Only(400),
    ),
    Case(
        "a chunk that ends with LF alone",
        Clients,
        Raw(
            "POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\n0\r\n\r\n",
        ),
        Only(400),
    ),
    Case("an extension of a chunk that goes on and on", Clients, Long(long_extension), Only(400)),
    Case("trailers that go on and on", Clients, Long(long_trailers), Only(400)),
    Case("chunks beyond what a body may be", Clients, Long(many_chunks), Status(413)),
    Case(
        "a length and chunks to operators",
        Operators,
        Raw(
            "POST /api/plugins/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        Only(401),
    ),
    Case(
        "two lengths to operators",
        Operators,
        Raw("POST /api/plugins/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nGET /"),
        Only(400),
    ),
];

fn path_of(bytes: usize) -> Vec<u8> {
    format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(bytes)).into_bytes()
}

fn long_path(_: &Scene) -> Vec<u8> {
    path_of(30 << 10)
}

fn longest_path(_: &Scene) -> Vec<u8> {
    path_of(80 << 10)
}

fn many_headers(_: &Scene) -> Vec<u8> {
    format!("GET /livez HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-A: x\r\n".repeat(101)).into_bytes()
}

fn long_header(_: &Scene) -> Vec<u8> {
    format!("GET /livez HTTP/1.1\r\nHost: a\r\nX-A: {}\r\n\r\n", "x".repeat(80 << 10)).into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    let head = "POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked";
    format!("{head}\r\n\r\n{body}").into_bytes()
}

fn long_extension(_: &Scene) -> Vec<u8> {
    chunked(&format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "x".repeat(40 << 10)))
}

fn long_trailers(_: &Scene) -> Vec<u8> {
    chunked(&format!("2\r\n{{}}\r\n0\r\n{}\r\n", "X-A: x\r\n".repeat(8 << 10)))
}

fn many_chunks(_: &Scene) -> Vec<u8> {
    chunked(&"400\r\n".chars().chain("x".repeat(1_024).chars()).chain("\r\n".chars()).collect::<String>().repeat(200))
}
