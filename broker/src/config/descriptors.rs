//! The file descriptors that the process may open, and how they are divided.
//!
//! When none is left, the system refuses the next one, whoever needs it: a store that cannot open its file fails a
//! message, and a listener accepts nobody, not even operators. So clients only get what the others leave.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::resolved::ConfigError;

/// Upper bound: more than any machine's clients need, since some systems report no limit at all.
const MOST: u64 = 1 << 20;

/// For what every broker opens: standard streams, the poller, two listeners, the log, locks, up to 17 connections to
/// Postgres and 2 to Redis, and one connection that is accepted only to be closed.
const BASE: usize = 64;

/// Concurrent connections of operators, if there are few descriptors, and if there are enough.
const OPERATORS: (usize, usize) = (8, 64);

/// For the pipes of compilers, and for files of compiled plugins.
const CHILDREN: usize = 16;

/// A tenant's SQLite files: one writer and two readers, with the log and its index.
const A_TENANT: usize = 7;

/// Tenants whose files are open at once, if there are few descriptors, and if there are enough.
const TENANTS: (usize, usize) = (4, 128);

/// Minimum number of client connections: with fewer, a broker is useless.
const FEWEST: usize = 16;

/// How the descriptors are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// All descriptors of the process.
    pub all: usize,
    /// Connections of clients, including sockets.
    pub connections: usize,
    pub operators: usize,
    /// Tenants whose SQLite files may be open at once.
    pub tenants: usize,
}

impl Descriptors {
    /// Raises the limit as far as possible, and divides the descriptors.
    ///
    /// # Errors
    /// If there are too few.
    pub fn claim() -> Result<Self, ConfigError> {
        let given = getrlimit(Resource::Nofile);
        let most = given.maximum.unwrap_or(MOST).min(MOST);
        if given.current.is_some_and(|current| current < most) {
            // If the system refuses this, the limit stays unchanged.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: given.maximum });
        }
        let now = getrlimit(Resource::Nofile).current.unwrap_or(MOST).min(MOST);
        Self::share(usize::try_from(now).unwrap_or(usize::MAX))
    }

    fn share(all: usize) -> Result<Self, ConfigError> {
        let tenants = (all / 4 / A_TENANT).clamp(TENANTS.0, TENANTS.1);
        let operators = (all / 16).clamp(OPERATORS.0, OPERATORS.1);
        let others = BASE + operators + CHILDREN + A_TENANT * tenants;
        match all.checked_sub(others).filter(|connections| *connections >= FEWEST) {
            Some(connections) => Ok(Self { all, connections, operators, tenants }),
            None => Err(ConfigError::Descriptors { all, least: others + FEWEST }),
        }
    }

    /// How many of the connections can be sockets. The others are reserved for HTTP requests.
    pub fn sockets(&self, wanted: usize) -> usize {
        wanted.min(self.connections - (self.connections / 4).clamp(4, 8_192))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_others_leave() {
        for all in [150, 200, 256, 1_024, 4_096, 20_000, 1 << 20] {
            let Descriptors { connections, operators, tenants, .. } = Descriptors::share(all).unwrap();
            let others = BASE + operators + CHILDREN + A_TENANT * tenants;
            assert_eq!(connections + others, all, "{all}");
            assert!(connections >= FEWEST && (TENANTS.0..=TENANTS.1).contains(&tenants), "{all}");
        }
        assert_eq!(Descriptors::share(1 << 20).unwrap().tenants, 128);
        let error = Descriptors::share(100).unwrap_err().to_string();
        assert!(error.contains("100") && error.contains("ulimit -n"), "{error}");
    }

    #[test]
    fn some_connections_are_left_for_those_who_open_no_socket() {
        let all = Descriptors::share(1_024).unwrap();
        assert_eq!(all.sockets(10), 10);
        assert!(all.sockets(50_000) < all.connections);
    }
}
