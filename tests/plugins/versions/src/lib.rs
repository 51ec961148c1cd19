//! Says which version of it handled an event, so that the tests can tell. Each feature makes another version.

use std::time::{Duration, Instant};

use switchboard_plugin_sdk::prelude::*;

#[derive(Debug, Default)]
struct Versions {
    config: String,
}

impl Handler for Versions {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = if cfg!(feature = "two") {
        "2.0.0"
    } else if cfg!(feature = "fails") {
        "3.0.0"
    } else if cfg!(feature = "kv") {
        "4.0.0"
    } else if cfg!(feature = "sockets") {
        "5.0.0"
    } else if cfg!(feature = "traps") {
        "6.0.0"
    } else if cfg!(feature = "slow") {
        "7.0.0"
    } else if cfg!(feature = "loops") {
        "8.0.0"
    } else {
        "1.0.0"
    };
    const KINDS: &'static [Kind] = if cfg!(feature = "two") {
        &[Kind::durable("versions.which"), Kind::durable("versions.new")]
    } else {
        &[Kind::durable("versions.which")]
    };
    const WANTS: &'static [Want] = if cfg!(feature = "kv") { &[Want::Kv] } else { &[] };

    fn init(&mut self, config: &str) -> Result<(), String> {
        if cfg!(feature = "fails") {
            return Err("its database\nis on fire".to_owned());
        }
        if config == "wrong" {
            return Err("`wrong` is no configuration".to_owned());
        }
        if let Some(millis) = config.strip_prefix("starts for ") {
            work_for(Duration::from_millis(millis.parse().map_err(|_| "that is no number")?));
        }
        config.clone_into(&mut self.config);
        Ok(())
    }

    fn handle(&mut self, event: Event, host: &impl Host) -> Outcome {
        if cfg!(feature = "traps") {
            panic!("version 6 has a bug");
        }
        if cfg!(feature = "slow") {
            work_for(Duration::from_millis(40));
        }
        if cfg!(feature = "loops") {
            loop {
                std::hint::black_box(());
            }
        }
        if cfg!(feature = "other") {
            return Err(Failure::denied("other bytes"));
        }
        if cfg!(feature = "sockets") && std::net::TcpStream::connect("127.0.0.1:1").is_ok() {
            return Err(Failure::denied("out"));
        }
        host.log(Level::Info, &format!("{} by {}", event.kind, Self::VERSION));
        let answer = format!("{} {}", Self::VERSION, self.config);
        Ok(vec![Effect::store(Draft::new("versions.answer", answer.trim_end())?)])
    }
}

fn work_for(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "a guest has no clock but this one")]
    let began = Instant::now();
    while began.elapsed() < time {}
}

export!(Versions);
