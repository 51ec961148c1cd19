//! The HTTP server: it upgrades sockets, and passes all other requests to the routes.
//!
//! It handles no message. A request that is refused before its sender is identified learns nothing about tenants.

mod admin;
mod admission;
mod body;
mod connection;
mod cors;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod page;
mod paging;
mod proxies;
mod query;
mod rest;
mod state;
mod strict;
mod token;
mod upgrade;
mod waiting;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::config::Config;

use admission::Admission;
pub use proxies::TrustedProxies;
pub use state::State;

/// Connections that can wait to be accepted; the system may allow fewer (`net.core.somaxconn`). Beyond that, the system
/// does not refuse connections but drops their first packets, which clients resend after ever longer pauses. So there must
/// be room for all clients of another node that dies.
const BACKLOG: u32 = 4_096;

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address} (set {flag} to a different address): {source}")]
pub struct ListenError {
    address: SocketAddr,
    flag: &'static str,
    #[source]
    source: std::io::Error,
}

/// Stops the two listeners, each at its own time.
#[derive(Debug)]
pub struct Stop {
    clients: watch::Sender<bool>,
    operators: watch::Sender<bool>,
}

/// Tells the listeners when to stop.
#[derive(Debug)]
pub struct Stopping {
    clients: watch::Receiver<bool>,
    operators: watch::Receiver<bool>,
}

impl Stop {
    /// Creates both ends; neither listener stops yet.
    pub fn new() -> (Self, Stopping) {
        let ((clients, to_clients), (operators, to_operators)) = (watch::channel(false), watch::channel(false));
        (Self { clients, operators }, Stopping { clients: to_clients, operators: to_operators })
    }

    /// Stops accepting clients.
    pub fn clients(&self) {
        self.clients.send_replace(true);
    }

    /// Stops accepting operators.
    pub fn operators(&self) {
        self.operators.send_replace(true);
    }
}

/// The running listeners.
#[derive(Debug)]
pub struct Serving {
    pub clients: JoinHandle<()>,
    pub operators: JoinHandle<()>,
}

/// Maximum numbers of concurrent connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionBounds {
    /// Of clients, including sockets.
    pub clients: usize,
    /// Of sockets.
    pub sockets: usize,
    pub operators: usize,
}

/// The two listeners, bound but not yet accepting.
#[derive(Debug)]
pub struct Listeners {
    public: TcpListener,
    admin: TcpListener,
}

impl Listeners {
    /// Binds both addresses.
    pub fn bind(config: &Config) -> Result<Self, ListenError> {
        let bind = |address: SocketAddr, flag| listen(address).map_err(|source| ListenError { address, flag, source });
        let public = bind(config.listen.public, "--listen")?;
        let admin = bind(config.listen.admin, "--admin-listen")?;
        Ok(Self { public, admin })
    }

    /// The address for clients, with the actual port.
    pub fn public_address(&self) -> std::io::Result<SocketAddr> {
        self.public.local_addr()
    }

    pub fn admin_address(&self) -> std::io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Accepts connections until told to stop. The listeners end once the open requests are answered.
    pub fn serve(self, state: Arc<State>, bounds: ConnectionBounds, stop: Stopping) -> Serving {
        let ConnectionBounds { clients, sockets, operators } = bounds;
        let (of_clients, of_operators) = (Arc::new(Semaphore::new(clients)), Arc::new(Semaphore::new(operators)));
        // Operators have no sockets: only the number of their connections is limited.
        let (clients, operators) = (Admission::new(clients - sockets), Admission::new(usize::MAX));
        let public = connection::Routes::new(rest::routes(Arc::clone(&state)), Some(Arc::clone(&state)));
        let admin = connection::Routes::new(admin::routes(state), None);
        Serving {
            clients: tokio::spawn(connection::accept(self.public, public, of_clients, clients, stop.clients)),
            operators: tokio::spawn(connection::accept(self.admin, admin, of_operators, operators, stop.operators)),
        }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted broker can bind its address while old connections are still closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
