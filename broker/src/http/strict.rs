//! What every request must be, whatever it asks for (RFC 9110, section 7.2, and RFC 9112, section 3.2).
//!
//! A request that two readers could understand in two ways is refused: a proxy may have taken it for another host's, or for
//! another page's. hyper refuses the rest by itself: heads that it cannot parse, and lengths that contradict each other. Of
//! `Content-Length` beside `Transfer-Encoding` it ignores the former and closes the connection after the answer, as RFC 9112
//! allows in section 6.3; neither header is left to be seen here.

use hyper::header::{HOST, HeaderMap, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{Request, Version};

/// What is wrong with a request, for its sender. `None`: nothing.
pub(super) fn flaw<B>(request: &Request<B>) -> Option<&'static str> {
    if let Some(flaw) = flaw_of_host(request.headers(), request.version()) {
        return Some(flaw);
    }
    let several = request.headers().get_all(ORIGIN).iter().nth(1).is_some();
    several.then_some("send Origin at most once")
}

fn flaw_of_host(headers: &HeaderMap, version: Version) -> Option<&'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        // Only HTTP/1.1 requires it.
        (None, _) => (version >= Version::HTTP_11).then_some("send Host"),
        (Some(_), Some(_)) => Some("send Host once"),
        (Some(host), None) => {
            (!is_host(host.as_bytes())).then_some("Host must be a name or an address, with or without a port")
        }
    }
}

fn is_host(value: &[u8]) -> bool {
    let Ok(host) = Authority::try_from(value) else { return false };
    let port = host.as_str().strip_prefix(host.host());
    // An empty port is that of the scheme.
    let is_port = |port: &str| port.is_empty() || port == ":" || host.port_u16().is_some();
    !host.host().is_empty() && port.is_some_and(is_port)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for good in ["a.example", "a.example:8080", "a.example:", "127.0.0.1:1", "[::1]", "[::1]:65535", "localhost"] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in
            ["", ":80", "a b", "a/b", "me@a.example", "a.example:x", "a.example:65536", "a, b", "http://a", "[::1"]
        {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_request_names_one_host_and_one_origin_at_most() {
        let flaw = |version, headers: &[(&'static str, &'static str)]| {
            let mut request = Request::new(());
            *request.version_mut() = version;
            for (name, value) in headers {
                request.headers_mut().append(*name, HeaderValue::from_static(value));
            }
            flaw(&request)
        };
        let host = ("host", "a.example");
        let origin = ("origin", "https://a.example");
        assert_eq!(flaw(Version::HTTP_11, &[host, origin]), None);
        assert_eq!(flaw(Version::HTTP_10, &[]), None);
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert!(flaw(version, &[host, host]).is_some());
            assert!(flaw(version, &[("host", "")]).is_some());
            assert!(flaw(version, &[host, origin, origin]).is_some());
        }
        assert!(flaw(Version::HTTP_11, &[]).is_some());
    }
}
