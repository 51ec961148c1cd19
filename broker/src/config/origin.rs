//! Origins of web pages: which ones may use the broker from a browser.
//!
//! A page may always come from the host that the request is for. Behind a proxy the broker does not know by which scheme it
//! was reached, so hosts are compared without the default port of the page's own scheme. Operators name further origins.
//!
//! Browsers write an origin in one form. What operators write is brought to that form, and refused if it is no origin, since
//! one that never matches would look like a setting that does not work.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// An origin, or several, that the operator allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// `*`: all of them, also those that browsers call `null`.
    Any,
    One(Origin),
    /// `https://*.example.com`: all that are below this one, at any depth. It does not count itself.
    Below(Origin),
}

/// Scheme, host and port, in lower case. A default port is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

/// Whether a page of this origin may use the broker at this host, each as the browser writes it.
pub fn is_allowed(allowed: &[AllowedOrigin], origin: &str, host: Option<&str>) -> bool {
    if allowed.contains(&AllowedOrigin::Any) {
        return true;
    }
    let Ok(origin) = Origin::parse(origin) else { return false };
    host.is_some_and(|host| origin.is_of(host)) || allowed.iter().any(|one| one.covers(&origin))
}

impl AllowedOrigin {
    fn covers(&self, origin: &Origin) -> bool {
        match self {
            Self::Any => true,
            Self::One(one) => one == origin,
            Self::Below(above) => {
                let below = origin.host.strip_suffix(&above.host).and_then(|rest| rest.strip_suffix('.'));
                below.is_some_and(|name| !name.is_empty())
                    && (&above.scheme, above.port) == (&origin.scheme, origin.port)
            }
        }
    }
}

impl FromStr for AllowedOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "*" {
            return Ok(Self::Any);
        }
        let text = text.strip_suffix('/').filter(|text| !text.ends_with(['/', ':'])).unwrap_or(text);
        match text.split_once("://*.") {
            Some((scheme, domain)) => {
                let above = Origin::parse(&format!("{scheme}://{domain}"))?;
                let is_name =
                    above.host.contains(|char: char| char.is_ascii_alphabetic()) && !above.host.starts_with('[');
                if is_name { Ok(Self::Below(above)) } else { Err("`*.` must be followed by a domain".to_owned()) }
            }
            None => Origin::parse(text).map(Self::One),
        }
    }
}

impl Origin {
    fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, authority)) = text.split_once("://") else {
            return Err(format!("an origin begins with a scheme, such as https://{text}"));
        };
        let is_scheme = |scheme: &str| {
            scheme.starts_with(|char: char| char.is_ascii_alphabetic())
                && scheme.chars().all(|char| char.is_ascii_alphanumeric() || "+-.".contains(char))
        };
        if !is_scheme(scheme) {
            return Err(format!("`{scheme}` is no scheme; use https:// or http://"));
        }
        for (sign, what) in [('@', "user"), ('?', "query"), ('#', "fragment"), ('/', "path")] {
            if authority.contains(sign) {
                return Err(format!("an origin has no {what}: it is a scheme, a host and a port"));
            }
        }
        let (host, port) = host_and_port(authority)?;
        let mut origin = Self { scheme: scheme.to_ascii_lowercase(), host, port };
        origin.port = origin.without_default(port);
        Ok(origin)
    }

    /// Whether a request with this `Host` is for the host of this origin.
    fn is_of(&self, host: &str) -> bool {
        host_and_port(host).is_ok_and(|(host, port)| host == self.host && self.without_default(port) == self.port)
    }

    fn without_default(&self, port: Option<u16>) -> Option<u16> {
        let default = match self.scheme.as_str() {
            "https" => Some(443),
            "http" => Some(80),
            _ => None,
        };
        port.filter(|_| port != default)
    }
}

fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match text.rsplit_once(':') {
        // The colon may be one within an IPv6 address.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_address = |host: &str| {
        host.strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
    };
    let is_name =
        |host: &str| !host.is_empty() && host.chars().all(|char| char.is_ascii_alphanumeric() || "-._".contains(char));
    if !is_name(host) && !is_address(host) {
        return Err(match host.is_ascii() {
            true => format!("`{host}` is no host"),
            false => format!("write `{host}` as browsers send it, in ASCII (xn--…)"),
        });
    }
    let port = match port {
        None | Some("") => None,
        Some(port) => Some(port.parse().map_err(|_| format!("`{port}` is no port"))?),
    };
    Ok((host.to_ascii_lowercase(), port))
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (below, origin) = match self {
            Self::Any => return f.write_str("*"),
            Self::One(origin) => ("", origin),
            Self::Below(origin) => ("*.", origin),
        };
        write!(f, "{}://{below}{}", origin.scheme, origin.host)?;
        origin.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_operators_write_is_brought_to_one_form() {
        for (written, form) in [
            ("https://chat.example", "https://chat.example"),
            (" https://chat.example/ ", "https://chat.example"),
            ("HTTPS://Chat.Example:443", "https://chat.example"),
            ("http://chat.example:80/", "http://chat.example"),
            ("http://chat.example:443", "http://chat.example:443"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
            ("https://[::1]", "https://[::1]"),
            ("https://*.Example.com:443/", "https://*.example.com"),
            ("capacitor://localhost", "capacitor://localhost"),
            (" * ", "*"),
        ] {
            assert_eq!(written.parse::<AllowedOrigin>().map(|one| one.to_string()).as_deref(), Ok(form), "{written}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_with_the_reason() {
        for (written, why) in [
            ("", "scheme"),
            ("chat.example", "https://chat.example"),
            ("chat.example:443", "scheme"),
            ("://chat.example", "scheme"),
            ("null", "scheme"),
            ("https://", "host"),
            ("https://chat.example/app", "path"),
            ("https://chat.example//", "path"),
            ("https://me@chat.example", "user"),
            ("https://chat.example?x", "query"),
            ("https://chat.example#x", "fragment"),
            ("https://chat example", "host"),
            ("https://chat.example:x", "port"),
            ("https://chat.example:65536", "port"),
            ("https://bücher.example", "xn--"),
            ("https://*", "host"),
            ("https://*.", "host"),
            ("https://*.127.0.0.1", "domain"),
            ("https://chat.*.example", "host"),
            ("*.example.com", "scheme"),
        ] {
            let refused = written.parse::<AllowedOrigin>().unwrap_err();
            assert!(refused.contains(why), "{written}: {refused}");
        }
    }

    #[test]
    fn a_page_may_come_from_the_own_host_and_from_what_is_allowed() {
        let none: &[&str] = &[];
        let listed = &["https://chat.example", "https://*.wide.example", "http://dev.example:3000"][..];
        for (allowed, origin, host, expected) in [
            // The own host, also with the default port of the page's scheme.
            (none, "http://chat.example:8080", "chat.example:8080", true),
            (none, "https://chat.example", "chat.example", true),
            (none, "https://chat.example", "Chat.Example:443", true),
            (none, "http://chat.example", "chat.example:80", true),
            (none, "https://chat.example", "chat.example:80", false),
            (none, "https://chat.example:8443", "chat.example", false),
            (none, "https://[::1]", "[::1]:443", true),
            (none, "https://evil.example", "chat.example", false),
            (none, "null", "chat.example", false),
            (none, "null", "null", false),
            // The list adds to it.
            (listed, "http://own.example", "own.example", true),
            (listed, "https://chat.example", "own.example", true),
            (listed, "https://chat.example:443", "own.example", true),
            (listed, "http://chat.example", "own.example", false),
            (listed, "https://chat.example:8443", "own.example", false),
            (listed, "https://chat.example.evil.example", "own.example", false),
            (listed, "http://dev.example:3000", "own.example", true),
            (listed, "http://dev.example", "own.example", false),
            // Below, and not the domain itself.
            (listed, "https://a.wide.example", "own.example", true),
            (listed, "https://a.b.wide.example", "own.example", true),
            (listed, "https://wide.example", "own.example", false),
            (listed, "https://.wide.example", "own.example", false),
            (listed, "https://notwide.example", "own.example", false),
            (listed, "http://a.wide.example", "own.example", false),
            (listed, "https://a.wide.example:8443", "own.example", false),
            (&["*"], "https://evil.example", "own.example", true),
            (&["*"], "null", "own.example", true),
        ] {
            let allowed: Vec<AllowedOrigin> = allowed.iter().map(|one| one.parse().unwrap()).collect();
            assert_eq!(is_allowed(&allowed, origin, Some(host)), expected, "{origin} at {host}, allowed {allowed:?}");
        }
        assert!(!is_allowed(&[], "https://chat.example", None));
    }
}
