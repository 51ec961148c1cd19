//! Rate limits in the settings: how often something may happen, and to whom that applies.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// How often something may happen: a number in a period, and a burst that may happen at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub number: NonZeroU32,
    pub period: Duration,
    pub burst: NonZeroU32,
}

impl FromStr for Rate {
    type Err = String;

    /// Parses `NUMBER/s`, `/m` or `/h`, with an optional `:BURST`, such as `10/m:50`. A number may end in `k` or `M`.
    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("`{text}` is not a rate such as 100/s, 10/m:50 or 1M/s:16M");
        let (rate, burst) = text.split_once(':').map_or((text, None), |(rate, burst)| (rate, Some(burst)));
        let (number, unit) = rate.split_once('/').ok_or_else(refused)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => return Err(refused()),
        };
        let number = count(number).ok_or_else(refused)?;
        let burst = burst.map_or(Some(number), count).ok_or_else(refused)?;
        Ok(Self { number, period: Duration::from_secs(seconds), burst })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}:{}", self.number, self.burst)
    }
}

fn count(text: &str) -> Option<NonZeroU32> {
    let (digits, times) = match text.as_bytes().last()? {
        b'k' => (&text[..text.len() - 1], 1_000),
        b'M' => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    NonZeroU32::new(digits.parse::<u32>().ok()?.checked_mul(times)?)
}

/// The limits of one kind of request; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScopedRates {
    pub member: Option<Rate>,
    pub tenant: Option<Rate>,
    pub address: Option<Rate>,
}

impl ScopedRates {
    /// Changes the limits that a text names, as in `member=10/m:50 address=off`. The others stay.
    pub(super) fn change(&mut self, text: &str) -> Result<(), String> {
        for pair in text.split_whitespace() {
            let form = || format!("`{pair}` is not of the form SCOPE=RATE, where SCOPE is member, tenant or address");
            let (scope, rate) = pair.split_once('=').ok_or_else(form)?;
            let rate = if rate == "off" { None } else { Some(rate.parse()?) };
            match scope {
                "member" => self.member = rate,
                "tenant" => self.tenant = rate,
                "address" => self.address = rate,
                _ => return Err(form()),
            }
        }
        Ok(())
    }
}

impl fmt::Display for ScopedRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |rate: Option<Rate>| rate.map_or("off".to_owned(), |rate| rate.to_string());
        write!(f, "member={} tenant={} address={}", show(self.member), show(self.tenant), show(self.address))
    }
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimits {
    /// Frames that clients send on sockets.
    pub frames: ScopedRates,
    /// Channels that sockets join.
    pub joins: ScopedRates,
    /// Log-ins with a password. The member's limit is one for a name, whether or not it exists.
    pub log_ins: ScopedRates,
    /// Channels that are created over HTTP.
    pub channels: ScopedRates,
    /// Bytes of request bodies.
    pub body_bytes: ScopedRates,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_as_it_is_shown_and_nothing_else_is() {
        for (text, shown) in [
            ("100/s", "100/s:100"),
            ("10/m:50", "10/m:50"),
            ("1M/s:16M", "1000000/s:16000000"),
            ("5k/h", "5000/h:5000"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.to_string(), shown);
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
        for bad in ["", "100", "0/s", "10/s:0", "-1/s", "10/d", "10/s:x", "5000M/s", "1.5/s", "k/s"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        let mut rates = ScopedRates::default();
        rates.change("member=10/m:50 tenant=1/s").unwrap();
        rates.change("tenant=off").unwrap();
        assert_eq!(rates.to_string(), "member=10/m:50 tenant=off address=off");
        for bad in ["node=1/s", "member", "member=fast"] {
            assert!(rates.change(bad).is_err(), "{bad}");
        }
    }
}
