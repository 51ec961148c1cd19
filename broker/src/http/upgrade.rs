//! The WebSocket handshake: from a request to a socket.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use fastwebsockets::upgrade::{UpgradeFut, is_upgrade_request, upgrade};
use hyper::body::{Body, Incoming};
use hyper::header::{
    CONNECTION, HOST, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{HeaderMap, Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

use super::admission::ListenerPermit;
use super::state::State;
use super::waiting::Noted;
use super::{query, token};
use crate::config::{AllowedOrigin, is_allowed};
use crate::model::ClientAddress;
use crate::protocol::SUBPROTOCOL;
use crate::session::{self, Arrival, Scope};

#[derive(Debug, Default, Deserialize)]
struct Parameters {
    token: Option<String>,
    since: Option<String>,
}

/// Answers a request below `/ws/`: with the handshake, or with what is wrong with the request.
pub(super) fn open(state: &Arc<State>, mut request: Request<Incoming>, address: ClientAddress) -> Response {
    let parameters: Parameters = match query::read(request.uri(), "`token` and `since` must be text") {
        Ok(parameters) => parameters,
        Err(refused) => return refused.into_response(),
    };
    let Some(scope) = scope(request.uri().path(), parameters.since) else {
        return refusal(StatusCode::NOT_FOUND, "the paths of sockets are /ws/ and /ws/chat/{channel}/");
    };
    if let Some(refused) = refusal_of_handshake(&request) {
        return refused;
    }
    if !origin_allowed(request.headers(), &state.allowed_origins) {
        return refusal(StatusCode::FORBIDDEN, "this origin is not allowed to open sockets; see --allowed-origin");
    }
    let offered = Offered::read(request.headers());
    let Ok(token) = the_one_token(parameters.token, request.headers(), offered.tokens) else {
        return refusal(StatusCode::BAD_REQUEST, "two different tokens were given; give one");
    };
    let (handshake, upgraded) = match upgrade(&mut request) {
        Ok(done) => done,
        Err(_) => return refusal(StatusCode::BAD_REQUEST, KEY_ONCE),
    };
    let services = Arc::clone(&state.services);
    let permit = request.extensions_mut().remove::<ListenerPermit>();
    state.sessions.spawn(async move {
        let _place = permit;
        let Some((stream, early)) = connection(upgraded).await else { return };
        let arrival = Arrival { stream, early, scope, token, address };
        session::run(services, arrival).await;
    });
    let mut response = handshake.map(axum::body::Body::new);
    if offered.subprotocol {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    response
}

const KEY_ONCE: &str = "send Sec-WebSocket-Key once, with 16 bytes in Base64";

/// Refuses what RFC 6455 refuses in section 4.2.1, beyond what every request must be.
fn refusal_of_handshake(request: &Request<Incoming>) -> Option<Response> {
    let refused = |message| Some(refusal(StatusCode::BAD_REQUEST, message));
    if request.version() < Version::HTTP_11 {
        return refused("open a socket with HTTP/1.1");
    }
    if !is_upgrade_request(request) {
        return refused("this is a WebSocket: send Connection: Upgrade and Upgrade: websocket");
    }
    if !request.body().is_end_stream() {
        return refused("a handshake has no body");
    }
    match once(request.headers(), SEC_WEBSOCKET_VERSION) {
        Ok(Some(b"13")) => {}
        Ok(_) => return Some(other_version()),
        Err(Repeated) => return refused("send Sec-WebSocket-Version once"),
    }
    match once(request.headers(), SEC_WEBSOCKET_KEY) {
        Ok(Some(key)) if is_key(key) => None,
        _ => refused(KEY_ONCE),
    }
}

/// A header that may be given once was given several times.
struct Repeated;

fn once(headers: &HeaderMap, name: HeaderName) -> Result<Option<&[u8]>, Repeated> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(HeaderValue::as_bytes);
    if values.next().is_some() { Err(Repeated) } else { Ok(first) }
}

/// Whether this is Base64 of 16 bytes: 22 digits and two signs that fill up.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.strip_suffix(b"==").is_some_and(|digits| digits.len() == 22 && digits.iter().all(is_digit))
}

/// RFC 6455 wants the version that would be taken, and RFC 9110 what to upgrade to.
fn other_version() -> Response {
    let mut response = refusal(StatusCode::UPGRADE_REQUIRED, "send Sec-WebSocket-Version: 13");
    let headers = response.headers_mut();
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response
}

/// A refusal before the handshake, in the same form as for other routes.
pub(super) fn refusal(status: StatusCode, message: &'static str) -> Response {
    let name = if status == StatusCode::FORBIDDEN { "denied" } else { "bad_request" };
    let body = serde_json::json!({"error": {"code": name, "message": message, "retryable": false}});
    (status, axum::Json(body)).into_response()
}

/// Parses `/ws/` and `/ws/chat/{channel}/`, each with or without the trailing slash.
fn scope(path: &str, since: Option<String>) -> Option<Scope> {
    let rest = path.strip_prefix("/ws/")?;
    if rest.is_empty() {
        return Some(Scope::Many);
    }
    #[cfg(feature = "conformance")]
    if rest == "echo/" {
        return Some(Scope::Echo);
    }
    let channel = rest.strip_prefix("chat/")?;
    let channel = channel.strip_suffix('/').unwrap_or(channel);
    (!channel.is_empty() && !channel.contains('/')).then(|| Scope::One { channel: channel.to_owned(), since })
}

/// The token of the query, of `Authorization` or of the subprotocols, in this order. Of two that differ, whichever was taken
/// would be the wrong one to somebody.
fn the_one_token(
    in_query: Option<String>,
    headers: &HeaderMap,
    in_protocols: Vec<String>,
) -> Result<Option<String>, TokensDiffer> {
    let in_authorization = token::all_in_authorization(headers).map(str::to_owned);
    let mut tokens = in_query.into_iter().chain(in_authorization).chain(in_protocols);
    let first = tokens.next();
    if tokens.all(|token| first.as_ref() == Some(&token)) { Ok(first) } else { Err(TokensDiffer) }
}

#[derive(Debug, PartialEq, Eq)]
struct TokensDiffer;

/// The protocols and the tokens that the client offers in `Sec-WebSocket-Protocol`.
#[derive(Default)]
struct Offered {
    subprotocol: bool,
    tokens: Vec<String>,
}

impl Offered {
    fn read(headers: &HeaderMap) -> Self {
        let mut offered = Self::default();
        let lists = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
        for item in lists.flat_map(|list| list.split(',')).map(str::trim) {
            if item == SUBPROTOCOL {
                offered.subprotocol = true;
            } else if let Some(token) = item.strip_prefix("bearer.") {
                offered.tokens.push(token.to_owned());
            }
        }
        offered
    }
}

/// Browsers send the origin of their page; other clients send none and are allowed.
fn origin_allowed(headers: &HeaderMap, allowed: &[AllowedOrigin]) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    origin.to_str().is_ok_and(|origin| is_allowed(allowed, origin, host))
}

/// The connection of a completed handshake, and the bytes that followed it.
async fn connection(upgraded: UpgradeFut) -> Option<(TcpStream, Bytes)> {
    let socket = upgraded.await.inspect_err(|error| tracing::debug!(%error, "a handshake did not complete")).ok()?;
    let parts = socket.into_inner().into_inner().downcast::<TokioIo<Noted>>().ok()?;
    // A copy: otherwise the buffer of the request would stay in memory with these bytes.
    Some((parts.io.into_inner().into_inner(), Bytes::copy_from_slice(&parts.read_buf)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn both_paths_are_known_and_no_other() {
        let one = |since: Option<&str>| Scope::One { channel: "abc".to_owned(), since: since.map(str::to_owned) };
        assert_eq!(scope("/ws/", None), Some(Scope::Many));
        assert_eq!(scope("/ws/chat/abc/", None), Some(one(None)));
        assert_eq!(scope("/ws/chat/abc", Some("e:41".to_owned())), Some(one(Some("e:41"))));
        for other in ["/ws/chat/", "/ws/chat//", "/ws/chat/a/b/", "/ws/other/", "/ws"] {
            assert_eq!(scope(other, None), None, "{other}");
        }
    }

    #[test]
    fn a_token_may_come_as_a_subprotocol() {
        let offered = Offered::read(&headers(&[("sec-websocket-protocol", "switchboard.v1, bearer.a.b.c")]));
        assert!(offered.subprotocol);
        assert_eq!(offered.tokens, ["a.b.c"]);
    }

    #[test]
    fn a_token_may_come_in_several_places_if_it_is_the_same() {
        const GIVEN: &str = "a.b.c";
        let token = |query: Option<&str>, authorization: &[&'static str], protocols: &[&str]| {
            let pairs: Vec<_> = authorization.iter().map(|value| ("authorization", *value)).collect();
            let protocols = protocols.iter().map(|&token| token.to_owned()).collect();
            the_one_token(query.map(str::to_owned), &headers(&pairs), protocols)
        };
        let given = || Ok(Some(GIVEN.to_owned()));
        assert_eq!(token(None, &[], &[]), Ok(None));
        assert_eq!(token(None, &["Basic YTpi"], &[]), Ok(None), "another scheme is somebody else's");
        assert_eq!(token(Some(GIVEN), &[], &[]), given());
        assert_eq!(token(None, &["Bearer a.b.c"], &[]), given());
        assert_eq!(token(None, &["jwt  a.b.c"], &[]), given());
        assert_eq!(token(None, &["Basic YTpi", "Bearer a.b.c"], &[]), given());
        assert_eq!(token(None, &[], &[GIVEN]), given());
        assert_eq!(token(Some(GIVEN), &["Bearer a.b.c"], &[GIVEN, GIVEN]), given());
        assert_eq!(token(Some("x"), &["Bearer a.b.c"], &[]), Err(TokensDiffer));
        assert_eq!(token(Some("x"), &[], &[GIVEN]), Err(TokensDiffer));
        assert_eq!(token(None, &["Bearer a.b.c", "Bearer x"], &[]), Err(TokensDiffer));
        assert_eq!(token(None, &["Bearer a.b.c"], &["x"]), Err(TokensDiffer));
        assert_eq!(token(None, &[], &[GIVEN, "x"]), Err(TokensDiffer));
    }
}
