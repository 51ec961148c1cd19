//! Tokens that prove nothing. Each is refused over HTTP with 401 and on a socket with 4000.

use jsonwebtoken::Algorithm;
use serde_json::json;
use switchboard_tests::tokens::SECRET;

use super::Answer::Status;
use super::Case;
use super::Input::{Bearer, Get};
use super::Listener::Clients;

pub(super) const CASES: &[Case] = &[
    Case("alg none", Clients, Bearer(|s| s.claims().unsigned("none")), Status(401)),
    Case("alg None", Clients, Bearer(|s| s.claims().unsigned("None")), Status(401)),
    Case("alg NONE", Clients, Bearer(|s| s.claims().unsigned("NONE")), Status(401)),
    Case("no signature under HS256", Clients, Bearer(|s| s.claims().unsigned("HS256")), Status(401)),
    Case(
        "HS384 with the secret",
        Clients,
        Bearer(|s| s.claims().sign_with(SECRET, "HS384", Algorithm::HS384)),
        Status(401),
    ),
    Case(
        "HS512 with the secret",
        Clients,
        Bearer(|s| s.claims().sign_with(SECRET, "HS512", Algorithm::HS512)),
        Status(401),
    ),
    Case(
        "HS512 under the name of HS256",
        Clients,
        Bearer(|s| s.claims().sign_with(SECRET, "HS256", Algorithm::HS512)),
        Status(401),
    ),
    Case(
        "RS256 signed with the shared secret",
        Clients,
        Bearer(|s| s.claims().sign_with(SECRET, "RS256", Algorithm::HS256)),
        Status(401),
    ),
    Case(
        "ES256 signed with the shared secret",
        Clients,
        Bearer(|s| s.claims().sign_with(SECRET, "ES256", Algorithm::HS256)),
        Status(401),
    ),
    Case(
        "EdDSA signed with the shared secret",
        Clients,
        Bearer(|s| s.claims().sign_with(SECRET, "EdDSA", Algorithm::HS256)),
        Status(401),
    ),
    Case(
        "another secret",
        Clients,
        Bearer(|s| {
            s.claims().sign_with("a secret of someone else, which is long enough too", "HS256", Algorithm::HS256)
        }),
        Status(401),
    ),
    Case("an empty secret", Clients, Bearer(|s| s.claims().sign_with("", "HS256", Algorithm::HS256)), Status(401)),
    Case("an algorithm that is null", Clients, Bearer(|s| s.under(json!({"typ": "JWT", "alg": null}))), Status(401)),
    Case(
        "an algorithm that is a list",
        Clients,
        Bearer(|s| s.under(json!({"typ": "JWT", "alg": ["HS256"]}))),
        Status(401),
    ),
    Case("no algorithm", Clients, Bearer(|s| s.under(json!({"typ": "JWT"}))), Status(401)),
    Case(
        "an extension that must be understood",
        Clients,
        Bearer(|s| s.under(json!({"alg": "HS256", "crit": ["exp"], "exp": 1}))),
        Status(401),
    ),
    Case(
        "a payload that must not be decoded",
        Clients,
        Bearer(|s| s.under(json!({"alg": "HS256", "crit": ["b64"], "b64": false}))),
        Status(401),
    ),
    Case(
        "no extension that must be understood",
        Clients,
        Bearer(|s| s.under(json!({"alg": "HS256", "crit": []}))),
        Status(401),
    ),
    Case(
        "a list of extensions that is none",
        Clients,
        Bearer(|s| s.under(json!({"alg": "HS256", "crit": "exp"}))),
        Status(401),
    ),
    Case("a header that is a list", Clients, Bearer(|s| s.under(json!(["HS256"]))), Status(401)),
    Case("a token that has ended", Clients, Bearer(|s| s.claims().ending_in(-3_600).sign()), Status(401)),
    Case("a token for tomorrow", Clients, Bearer(|s| s.claims().with("nbf", s.now() + 3_600).sign()), Status(401)),
    Case(
        "a token of tomorrow",
        Clients,
        Bearer(|s| s.claims().with("iat", s.now() + 3_600).with("exp", s.now() + 7_200).sign()),
        Status(401),
    ),
    Case("no end", Clients, Bearer(|s| s.claims().without("exp").sign()), Status(401)),
    Case("an end that is a text", Clients, Bearer(|s| s.claims().with("exp", "never").sign()), Status(401)),
    Case("an end that is null", Clients, Bearer(|s| s.claims().with("exp", json!(null)).sign()), Status(401)),
    Case("an end below zero", Clients, Bearer(|s| s.claims().with("exp", -1).sign()), Status(401)),
    Case("a beginning that is a text", Clients, Bearer(|s| s.claims().with("nbf", "now").sign()), Status(401)),
    Case("a refresh token", Clients, Bearer(|s| s.claims().with("token_type", "refresh").sign()), Status(401)),
    Case("a token of no type", Clients, Bearer(|s| s.claims().without("token_type").sign()), Status(401)),
    Case(
        "a token of a type that is a list",
        Clients,
        Bearer(|s| s.claims().with("token_type", json!(["access"])).sign()),
        Status(401),
    ),
    Case("nobody's token", Clients, Bearer(|s| s.claims().without("user_id").sign()), Status(401)),
    Case("a member that is null", Clients, Bearer(|s| s.claims().with("user_id", json!(null)).sign()), Status(401)),
    Case(
        "a member that is a list",
        Clients,
        Bearer(|s| s.claims().with("user_id", json!(["alice"])).sign()),
        Status(401),
    ),
    Case("a member that is empty", Clients, Bearer(|s| s.claims().with("user_id", "").sign()), Status(401)),
    Case("a member with a point", Clients, Bearer(|s| s.claims().with("user_id", 1.5).sign()), Status(401)),
    Case("a member of 65 letters", Clients, Bearer(|s| s.claims().with("user_id", "x".repeat(65)).sign()), Status(401)),
    Case("a member with U+0000", Clients, Bearer(|s| s.claims().with("user_id", "a\0b").sign()), Status(401)),
    Case(
        "a tenant that is not there",
        Clients,
        Bearer(|s| s.claims().with("schema_name", "nobody").sign()),
        Status(401),
    ),
    Case("a tenant with a step up", Clients, Bearer(|s| s.claims().with("schema_name", "../acme").sign()), Status(401)),
    Case(
        "a tenant with a quote",
        Clients,
        Bearer(|s| s.claims().with("schema_name", "acme\"; drop schema acme--").sign()),
        Status(401),
    ),
    Case("a tenant that is a number", Clients, Bearer(|s| s.claims().with("schema_name", 5).sign()), Status(401)),
    Case("no tenant", Clients, Bearer(|s| s.claims().without("schema_name").without("tenant_id").sign()), Status(401)),
    Case("a token of 12 KiB", Clients, Bearer(|s| s.claims().with("x", "x".repeat(9_000)).sign()), Status(401)),
    Case("a token that is a word", Clients, Bearer(|_| "rubbish".to_owned()), Status(401)),
    Case("a token of points", Clients, Bearer(|_| "..".to_owned()), Status(401)),
    Case("a token of 1,000 points", Clients, Bearer(|_| ".".repeat(1_000)), Status(401)),
    Case("a token whose parts are no base64", Clients, Bearer(|_| "!.!.!".to_owned()), Status(401)),
    Case("a token whose parts are no JSON", Clients, Bearer(|_| "YQ.YQ.YQ".to_owned()), Status(401)),
    Case("a token of five parts", Clients, Bearer(|s| s.claims().sign() + ".YQ.YQ"), Status(401)),
    Case("a signature with one letter more", Clients, Bearer(|s| s.claims().sign() + "A"), Status(401)),
    Case("a signature with its padding", Clients, Bearer(|s| s.claims().sign() + "="), Status(401)),
    Case("no token at all", Clients, Get("/api/me/", ""), Status(401)),
    Case("a scheme without a token", Clients, Get("/api/me/", "Authorization: Bearer\r\n"), Status(401)),
    Case(
        "a good token under another scheme",
        Clients,
        Get("/api/me/", "Authorization: Basic {token}\r\n"),
        Status(401),
    ),
    Case("a good token without a scheme", Clients, Get("/api/me/", "Authorization: {token}\r\n"), Status(401)),
    Case(
        "a good token and another",
        Clients,
        Get("/api/me/", "Authorization: Bearer {token}, Bearer {token}\r\n"),
        Status(401),
    ),
    Case("a good token in a cookie", Clients, Get("/api/me/", "Cookie: token={token}\r\n"), Status(401)),
    Case("a good token in the query of a request", Clients, Get("/api/me/?token={token}", ""), Status(401)),
    Case(
        "the token of an operator for a member",
        Clients,
        Get("/api/me/", "Authorization: Bearer {admin}\r\n"),
        Status(401),
    ),
];
