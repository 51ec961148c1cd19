//! Finds the client of a request that came through a proxy.
//!
//! Anybody can write a header. So `X-Forwarded-For` is read from its end, where the nearest proxy wrote, and only for as
//! long as the operator trusts each writer.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

use crate::model::ClientAddress;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The proxies that the operator trusts to name their clients.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Trusts the proxies in these networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether this is a trusted proxy.
    pub(super) fn has(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(&peer))
    }

    /// The client of a request: the peer, or the last address in the header that is not a trusted proxy.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddress {
        let mut client = peer;
        let lists = headers.get_all(FORWARDED_FOR).iter().rev().map(HeaderValue::as_bytes);
        // As bytes: what a client wrote into the list, text or not, must not hide what a proxy added.
        for hop in lists.flat_map(|list| list.rsplit(|byte| *byte == b',')) {
            if !self.has(client) {
                break;
            }
            // A trusted proxy writes only addresses.
            let Some(before) = std::str::from_utf8(hop).ok().and_then(|hop| address(hop.trim())) else { break };
            client = before;
        }
        client.into()
    }
}

/// Parses an address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip()).ok();
    text.parse().ok().or_else(with_port).or_else(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(proxies: &[&str], peer: &str, forwarded: &[&'static str]) -> String {
        let proxies = TrustedProxies::new(proxies.iter().map(|network| network.parse().unwrap()).collect());
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(value));
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn bytes_that_are_no_text_hide_nobody() {
        let proxies = TrustedProxies::new(vec!["10.0.0.1/32".parse().unwrap()]);
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED_FOR, HeaderValue::from_static("198.51.100.1"));
        headers.append(FORWARDED_FOR, HeaderValue::from_bytes(b"\xff\xfe, 192.0.2.7").unwrap());
        let client = |headers: &HeaderMap| proxies.client("10.0.0.1".parse().unwrap(), headers).to_string();
        assert_eq!(client(&headers), "192.0.2.7");
        headers.append(FORWARDED_FOR, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(client(&headers), "10.0.0.1", "and nothing before them is read");
    }

    #[test]
    fn a_header_counts_as_far_as_those_who_wrote_it_are_trusted() {
        let ours = ["10.0.0.0/8", "2001:db8:aaaa::/48"];
        for (peer, forwarded, from) in [
            // No proxy in between, whatever the client says.
            ("192.0.2.7", vec![], "192.0.2.7"),
            ("192.0.2.7", vec!["198.51.100.1"], "192.0.2.7"),
            // One proxy, after what the client itself wrote.
            ("10.0.0.1", vec!["192.0.2.7"], "192.0.2.7"),
            ("10.0.0.1", vec!["198.51.100.1, 192.0.2.7"], "192.0.2.7"),
            ("10.0.0.1", vec!["198.51.100.1", "192.0.2.7"], "192.0.2.7"),
            ("10.0.0.1", vec!["10.0.0.9, 192.0.2.7"], "192.0.2.7"),
            // Two trusted proxies in a row, also with a mapped address or a port.
            ("10.0.0.1", vec!["192.0.2.7, 10.0.0.2"], "192.0.2.7"),
            ("::ffff:10.0.0.1", vec!["192.0.2.7:4711, [2001:db8:aaaa::2]:80"], "192.0.2.7"),
            ("10.0.0.1", vec!["2001:db8:bbbb:1:2::3"], "2001:db8:bbbb:1::/64"),
            ("10.0.0.1", vec!["[2001:db8:bbbb:1:2::3]"], "2001:db8:bbbb:1::/64"),
            // What is not an address is ignored.
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["unknown"], "10.0.0.1"),
            ("10.0.0.1", vec!["192.0.2.7, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", vec![""], "10.0.0.1"),
        ] {
            assert_eq!(client(&ours, peer, &forwarded), from, "{peer} {forwarded:?}");
        }
        assert_eq!(client(&[], "127.0.0.1", &["192.0.2.7"]), "127.0.0.1", "nobody is trusted unless it is said");
    }
}
