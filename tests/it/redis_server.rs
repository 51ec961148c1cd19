//! Redis for tests: the shared one, and what is asked of any.
//!
//! A test touches only its own names in the shared one; what would disturb others happens in a [`PrivateRedis`].

use std::net::TcpListener;
use std::time::Duration;

use redis::FromRedisValue;

pub(crate) use switchboard_tests::servers::PrivateRedis;
pub(crate) use switchboard_tests::{DEADLINE, redis_url as shared_url};

/// Asks a Redis something.
pub(crate) async fn ask<T: FromRedisValue>(url: &str, command: &[&str]) -> T {
    let client = redis::Client::open(url).expect("an address of Redis");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis takes a connection");
    redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await.expect("Redis answers")
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        let mut turn = tokio::time::interval(Duration::from_millis(5));
        while !condition().await {
            turn.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// A port that nothing listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}
