//! Frames that break RFC 6455. All but one close the socket, with the code that the RFC gives.

use super::Answer::Close;
use super::Case;
use super::Frame::{Bare, Exactly, Masked};
use super::Input::Frames;
use super::Listener::Clients;

pub(super) const CASES: &[Case] = &[
    Case("a frame without a mask", Clients, Frames(&[Bare(0x81, b"{}")]), Close(1002)),
    Case("a ping without a mask", Clients, Frames(&[Bare(0x89, b"")]), Close(1002)),
    Case("the first reserved bit", Clients, Frames(&[Masked(0xC1, b"{}")]), Close(1002)),
    Case("the second reserved bit", Clients, Frames(&[Masked(0xA1, b"{}")]), Close(1002)),
    Case("the third reserved bit", Clients, Frames(&[Masked(0x91, b"{}")]), Close(1002)),
    Case("a reserved bit of a ping", Clients, Frames(&[Masked(0xC9, b"")]), Close(1002)),
    Case("opcode 3", Clients, Frames(&[Masked(0x83, b"{}")]), Close(1002)),
    Case("opcode 7", Clients, Frames(&[Masked(0x87, b"{}")]), Close(1002)),
    Case("opcode 11", Clients, Frames(&[Masked(0x8B, b"")]), Close(1002)),
    Case("opcode 15", Clients, Frames(&[Masked(0x8F, b"")]), Close(1002)),
    Case("a ping in parts", Clients, Frames(&[Masked(0x09, b"")]), Close(1002)),
    Case("a close in parts", Clients, Frames(&[Masked(0x08, b"")]), Close(1002)),
    Case("a ping of 126 bytes", Clients, Frames(&[Masked(0x89, &[0; 126])]), Close(1002)),
    Case("a close of 126 bytes", Clients, Frames(&[Masked(0x88, &[3; 126])]), Close(1002)),
    Case("a close of one byte", Clients, Frames(&[Masked(0x88, b"\x03")]), Close(1002)),
    Case("a close with code 0", Clients, Frames(&[Masked(0x88, b"\x00\x00")]), Close(1002)),
    Case("a close with code 999", Clients, Frames(&[Masked(0x88, b"\x03\xe7")]), Close(1002)),
    Case("a close with code 1005", Clients, Frames(&[Masked(0x88, b"\x03\xed")]), Close(1002)),
    Case("a close with code 1006", Clients, Frames(&[Masked(0x88, b"\x03\xee")]), Close(1002)),
    Case("a close with code 5000", Clients, Frames(&[Masked(0x88, b"\x13\x88")]), Close(1002)),
    Case("a close whose reason is no text", Clients, Frames(&[Masked(0x88, b"\x03\xe8\xff\xfe")]), Close(1007)),
    Case("the rest of nothing", Clients, Frames(&[Masked(0x80, b"{}")]), Close(1002)),
    Case("the middle of nothing", Clients, Frames(&[Masked(0x00, b"{}")]), Close(1002)),
    Case("a message within a message", Clients, Frames(&[Masked(0x01, b"{"), Masked(0x81, b"{}")]), Close(1002)),
    Case("a binary message", Clients, Frames(&[Masked(0x82, b"{}")]), Close(1003)),
    Case("a binary message in parts", Clients, Frames(&[Masked(0x02, b"{"), Masked(0x80, b"}")]), Close(1003)),
    Case("an empty binary message", Clients, Frames(&[Masked(0x82, b"")]), Close(1003)),
    Case("text that is no UTF-8", Clients, Frames(&[Masked(0x81, b"{\"type\":\"\xC3\x28\"}")]), Close(1007)),
    Case("text with an overlong slash", Clients, Frames(&[Masked(0x81, b"{\"type\":\"\xC0\xAF\"}")]), Close(1007)),
    Case("text with half of a pair", Clients, Frames(&[Masked(0x81, b"{\"type\":\"\xED\xA0\x80\"}")]), Close(1007)),
    Case("text that ends within a letter", Clients, Frames(&[Masked(0x81, b"{\"type\":\"\xE2\x82")]), Close(1007)),
    Case(
        "text in parts that is no UTF-8",
        Clients,
        Frames(&[Masked(0x01, b"{\"type\":\"\xC3"), Masked(0x80, b"\x28\"}")]),
        Close(1007),
    ),
    Case("a length of 2 in two bytes", Clients, Frames(&[Exactly(b"\x81\xFE\x00\x02\x00\x00\x00\x00{}")]), Close(1002)),
    Case(
        "a length of 2 in eight bytes",
        Clients,
        Frames(&[Exactly(b"\x81\xFF\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00{}")]),
        Close(1002),
    ),
    Case(
        "a length with its highest bit",
        Clients,
        Frames(&[Exactly(b"\x81\xFF\x80\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00")]),
        Close(1002),
    ),
    Case(
        "a length of a terabyte",
        Clients,
        Frames(&[Exactly(b"\x81\xFF\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")]),
        Close(1009),
    ),
    Case(
        "a length of 256 KiB and one",
        Clients,
        Frames(&[Exactly(b"\x81\xFF\x00\x00\x00\x00\x00\x04\x00\x01\x00\x00\x00\x00")]),
        Close(1009),
    ),
    Case("a second request", Clients, Frames(&[Exactly(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")]), Close(1002)),
    Case("zeros", Clients, Frames(&[Exactly(&[0; 64])]), Close(1002)),
    Case("ones", Clients, Frames(&[Exactly(&[0xFF; 64])]), Close(1002)),
];
