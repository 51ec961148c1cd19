//! The HTTP server: sockets are upgraded, everything else goes to the routes.
//!
//! No message is handled here. A request that is refused before anyone is identified learns nothing of tenants.

mod admin;
mod admission;
mod body;
mod connection;
mod error;
mod page;
mod paging;
mod proxies;
mod rest;
mod state;
mod upgrade;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::config::Config;

use admission::Admission;
pub use proxies::TrustedProxies;
pub use state::State;

/// How many connections may wait to be accepted; the system may allow fewer (`net.core.somaxconn`). Beyond it they are
/// not refused but lose their first bytes, and send them again ever later: a node that gets all clients of another one
/// at once must hold them.
const BACKLOG: u32 = 4_096;

/// Why the server does not listen.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address} (set {flag} to another one): {source}")]
pub struct ListenError {
    address: SocketAddr,
    flag: &'static str,
    #[source]
    source: std::io::Error,
}

/// Ends the listeners, each in its own time.
#[derive(Debug)]
pub struct Stop {
    clients: watch::Sender<bool>,
    operators: watch::Sender<bool>,
}

/// What the listeners are told by.
#[derive(Debug)]
pub struct Stopping {
    clients: watch::Receiver<bool>,
    operators: watch::Receiver<bool>,
}

impl Stop {
    /// Both go on.
    pub fn new() -> (Self, Stopping) {
        let ((clients, to_clients), (operators, to_operators)) = (watch::channel(false), watch::channel(false));
        (Self { clients, operators }, Stopping { clients: to_clients, operators: to_operators })
    }

    /// No client is accepted any more.
    pub fn clients(&self) {
        self.clients.send_replace(true);
    }

    /// No operator is accepted any more.
    pub fn operators(&self) {
        self.operators.send_replace(true);
    }
}

/// The listeners at work.
#[derive(Debug)]
pub struct Serving {
    /// For clients.
    pub clients: JoinHandle<()>,
    /// For operators.
    pub operators: JoinHandle<()>,
}

/// How many connections there may be at once.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionBounds {
    /// Of clients, sockets among them.
    pub clients: usize,
    /// Of them, those that may be sockets.
    pub sockets: usize,
    /// Of operators.
    pub operators: usize,
}

/// The two listeners, bound but not yet served.
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

    /// The address for clients, with the port that was really taken.
    pub fn public_address(&self) -> std::io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// The address for operators.
    pub fn admin_address(&self) -> std::io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Accepts until told to stop. The listeners end when the requests that are under way then are answered.
    pub fn serve(self, state: Arc<State>, bounds: ConnectionBounds, stop: Stopping) -> Serving {
        let ConnectionBounds { clients, sockets, operators } = bounds;
        let (of_clients, of_operators) = (Arc::new(Semaphore::new(clients)), Arc::new(Semaphore::new(operators)));
        // Operators have no sockets: they are bounded by their places alone.
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
    // A broker that is started again takes its address back from connections that are still fading away.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
