//! Accepts connections and speaks HTTP on them.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::admission::{Admission, ListenerPermit};
use super::state::State;
use super::waiting::{Heads, Patience};
use super::{strict, upgrade};
use crate::model::ClientAddress;
use crate::telemetry::Throttle;

/// How long to wait if the process has no file descriptor left.
const BREATH: Duration = Duration::from_millis(100);

/// How long to read what an operator still sends after the last answer.
const LINGER: Duration = Duration::from_secs(2);

/// Handles the requests of one listener.
#[derive(Clone)]
pub(super) struct Routes {
    router: axum::Router,
    /// What sockets need; only on the listener for clients.
    sockets: Option<Arc<State>>,
}

impl Routes {
    pub(super) fn new(router: axum::Router, sockets: Option<Arc<State>>) -> Self {
        Self { router, sockets }
    }

    /// The address whose share a connection uses. Operators and trusted proxies have no share.
    fn share_of(&self, peer: IpAddr) -> Option<ClientAddress> {
        self.sockets.as_ref().filter(|state| !state.trusted_proxies.has(peer)).map(|_| peer.into())
    }

    async fn answer(self, mut request: Request<Incoming>, peer: IpAddr) -> Result<Response, Infallible> {
        if let Some(flaw) = strict::flaw(&request) {
            let mut response = upgrade::refusal(StatusCode::BAD_REQUEST, flaw);
            // Whatever follows was sent by who is just as wrong about it.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return Ok(response);
        }
        if let Some(state) = &self.sockets {
            let address = state.trusted_proxies.client(peer, request.headers());
            if request.uri().path().starts_with("/ws/") {
                if request.method() != Method::GET {
                    let mut response = upgrade::refusal(StatusCode::METHOD_NOT_ALLOWED, "open a socket with GET");
                    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
                    return Ok(response);
                }
                return Ok(upgrade::open(state, request, address));
            }
            request.extensions_mut().insert(address);
        }
        self.router.oneshot(request.map(Body::new)).await
    }
}

/// Accepts connections until `stop` turns true, and returns once the open requests are answered. A connection for which
/// there is no room is dropped at once, so that its client can try another node.
pub(super) async fn accept(
    listener: TcpListener,
    routes: Routes,
    permits: Arc<Semaphore>,
    admission: Arc<Admission>,
    mut stop: watch::Receiver<bool>,
) {
    let (dropped, connections) = (Arc::new(Dropped::default()), TaskTracker::new());
    loop {
        let accepting = async {
            let permit = admission.permit().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepting => accepted,
            () = stopped(&mut stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(connection) = Arc::clone(&permits).try_acquire_owned() else {
                    dropped.on(peer.ip(), "connections");
                    continue;
                };
                let (routes, admission, dropped, mut stop) =
                    (routes.clone(), Arc::clone(&admission), Arc::clone(&dropped), stop.clone());
                connections.spawn(async move {
                    let admitted = tokio::select! {
                        admitted = admission.admit(permit, routes.share_of(peer.ip())) => admitted,
                        () = stopped(&mut stop) => return,
                    };
                    let Some(_admitted) = admitted else {
                        dropped.on(peer.ip(), "address");
                        return;
                    };
                    let crowded = move || admission.is_crowded();
                    serve(stream, peer.ip(), routes, Arc::new(connection), crowded, stop).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    // No new connection can arrive meanwhile.
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Counts dropped connections, and logs some of them.
#[derive(Default)]
struct Dropped(Throttle);

impl Dropped {
    fn on(&self, peer: IpAddr, reason: &'static str) {
        crate::metrics::CONNECTIONS_REFUSED.add([reason], 1);
        if let Some(others) = self.0.may_log() {
            tracing::warn!(%peer, reason, others, "dropped a connection: there is no room for it");
        }
    }
}

async fn serve(
    stream: TcpStream,
    peer: IpAddr,
    routes: Routes,
    permit: ListenerPermit,
    crowded: impl Fn() -> bool + Send + Sync + 'static,
    mut stop: watch::Receiver<bool>,
) {
    // Messages are small and should be sent at once.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let has_sockets = routes.sockets.is_some();
    let (heads, stream) = Heads::of(stream, Patience::USUAL, crowded);
    let mut server = http1::Builder::new();
    server.timer(heads).header_read_timeout(Patience::USUAL.pause).max_buf_size(32 * 1024);
    let served = if has_sockets {
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Arc::clone(&permit));
            routes.clone().answer(request, peer)
        });
        let connection = server.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection.with_upgrades());
        tokio::select! {
            served = connection.as_mut() => served,
            () = stopped(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    } else {
        let service = service_fn(move |request| Box::pin(routes.clone().answer(request, peer)));
        let mut connection = server.serve_connection(TokioIo::new(stream), service);
        let served = tokio::select! {
            served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => served,
            () = stopped(&mut stop) => {
                std::pin::Pin::new(&mut connection).graceful_shutdown();
                poll_fn(|cx| connection.poll_without_shutdown(cx)).await
            }
        };
        linger(connection.into_parts().io.into_inner().into_inner()).await;
        served
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Ends a connection whose client may still be sending, such as a component without a token. Closing it at once would reset
/// it, and the answer that says why could be lost.
async fn linger(mut stream: TcpStream) {
    let discarding = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    // A client that sends for longer, or is gone, has received its answer.
    let _ = tokio::time::timeout(LINGER, discarding).await;
}

/// Returns once `stop` turns true, or its sender is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
