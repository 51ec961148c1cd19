//! The network between a broker and a service, which a test may cut, silence or hold up.
//!
//! It carries bytes and knows nothing of what they mean. What it holds back is not lost but late, as on a network that
//! recovers; it goes on in order once it is let through.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{interval, timeout};

use crate::DEADLINE;
use crate::servers::free_address;

/// What happens to what passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Everything passes.
    Pass,
    /// Nothing listens, and all connections are cut: the other end is down.
    Refuse,
    /// Connections are taken and kept, and nothing passes: packets are dropped.
    Silence,
    /// What the service says is held back; what it is asked goes through.
    HoldReplies,
    /// What the service is asked is held back; what it says goes through.
    HoldRequests,
}

impl Traffic {
    fn lets_requests(self) -> bool {
        matches!(self, Self::Pass | Self::HoldReplies)
    }

    fn lets_replies(self) -> bool {
        matches!(self, Self::Pass | Self::HoldRequests)
    }
}

/// A way to a service. Dropping it cuts the way.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    orders: mpsc::Sender<(Traffic, oneshot::Sender<()>)>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A way to the service at this address, on which everything passes.
    pub async fn to(service: SocketAddr) -> Self {
        let address = free_address();
        let listener = TcpListener::bind(address).await.expect("the address is free");
        let (orders, given) = mpsc::channel(1);
        let task = tokio::spawn(serve(service, address, listener, given));
        Self { address, orders, task }
    }

    /// Where it is entered.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what happens to what passes from now on. What was on its way when this returns may still arrive.
    ///
    /// # Panics
    /// When its port is taken by another program while nothing listens on it.
    pub async fn set(&self, traffic: Traffic) {
        let (done, set) = oneshot::channel();
        self.orders.send((traffic, done)).await.expect("the proxy runs");
        set.await.expect("the proxy runs");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    service: SocketAddr,
    address: SocketAddr,
    listener: TcpListener,
    mut orders: mpsc::Receiver<(Traffic, oneshot::Sender<()>)>,
) {
    let (traffic, _) = watch::channel(Traffic::Pass);
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some((wanted, done)) = order else { return };
                if wanted == Traffic::Refuse {
                    listener = None;
                    connections.shutdown().await;
                } else if listener.is_none() {
                    listener = Some(bound_again(address).await);
                }
                traffic.send_replace(wanted);
                let _ = done.send(());
            }
            Some(client) = accept(listener.as_ref()) => {
                connections.spawn(carry(client, service, traffic.subscribe()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A process that another test is starting has a copy of this one's sockets until it runs its own program, and so keeps a
/// port for a moment after we gave it up.
async fn bound_again(address: SocketAddr) -> TcpListener {
    let binding = async {
        let mut pace = interval(Duration::from_millis(10));
        loop {
            pace.tick().await;
            if let Ok(listener) = TcpListener::bind(address).await {
                return listener;
            }
        }
    };
    timeout(DEADLINE, binding).await.expect("the port is still ours")
}

async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(client, _)| client),
        None => None,
    }
}

async fn carry(client: TcpStream, service: SocketAddr, traffic: watch::Receiver<Traffic>) {
    let Ok(service) = TcpStream::connect(service).await else { return };
    for end in [&client, &service] {
        let _ = end.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_service, to_service) = service.into_split();
    tokio::join!(
        pump(from_client, to_service, traffic.clone(), Traffic::lets_requests),
        pump(from_service, to_client, traffic, Traffic::lets_replies),
    );
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut traffic: watch::Receiver<Traffic>,
    lets: fn(Traffic) -> bool,
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut bytes).await.unwrap_or(0);
        // The end of a connection is held back as its bytes are.
        if traffic.wait_for(|traffic| lets(*traffic)).await.is_err() || read == 0 {
            break;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
