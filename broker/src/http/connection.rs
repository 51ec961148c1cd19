//! Accepts connections and speaks HTTP on them.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::admission::{Admission, ListenerPermit};
use super::state::State;
use super::upgrade;
use crate::model::ClientAddress;
use crate::telemetry::Throttle;

/// How long a client may take for the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// How long to wait when the process has no file descriptor left.
const BREATH: Duration = Duration::from_millis(100);

/// How long what an operator still sends is taken after the last answer.
const LINGER: Duration = Duration::from_secs(2);

/// Where requests of one listener go.
#[derive(Clone)]
pub(super) struct Routes {
    router: axum::Router,
    /// On the listener for clients: what sockets need.
    sockets: Option<Arc<State>>,
}

impl Routes {
    pub(super) fn new(router: axum::Router, sockets: Option<Arc<State>>) -> Self {
        Self { router, sockets }
    }

    /// Whose share of the listener a connection takes. Operators have none, and neither have proxies that many are behind.
    fn share_of(&self, peer: IpAddr) -> Option<ClientAddress> {
        self.sockets.as_ref().filter(|state| !state.trusted_proxies.has(peer)).map(|_| peer.into())
    }

    async fn answer(self, mut request: Request<Incoming>, peer: IpAddr) -> Result<Response, Infallible> {
        if let Some(state) = &self.sockets {
            let address = state.trusted_proxies.client(peer, request.headers());
            if request.uri().path().starts_with("/ws/") {
                if request.method() != Method::GET {
                    return Ok(upgrade::refusal(StatusCode::METHOD_NOT_ALLOWED, "a socket is opened with GET"));
                }
                return Ok(upgrade::open(state, request, address));
            }
            request.extensions_mut().insert(address);
        }
        self.router.oneshot(request.map(Body::new)).await
    }
}

/// Accepts until `stop` turns true, and returns when what was under way then is answered. One for whom there is no place is
/// hung up on at once, so that they may try elsewhere.
pub(super) async fn accept(
    listener: TcpListener,
    routes: Routes,
    places: Arc<Semaphore>,
    admission: Arc<Admission>,
    mut stop: watch::Receiver<bool>,
) {
    let (hung_up, connections) = (Arc::new(HungUp::default()), TaskTracker::new());
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
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    hung_up.on(peer.ip(), "connections");
                    continue;
                };
                let (routes, admission, hung_up, mut stop) =
                    (routes.clone(), Arc::clone(&admission), Arc::clone(&hung_up), stop.clone());
                connections.spawn(async move {
                    let admitted = tokio::select! {
                        admitted = admission.admit(permit, routes.share_of(peer.ip())) => admitted,
                        () = stopped(&mut stop) => return,
                    };
                    let Some(_admitted) = admitted else {
                        hung_up.on(peer.ip(), "address");
                        return;
                    };
                    serve(stream, peer.ip(), routes, Arc::new(place), stop).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    // Nobody new connects to it meanwhile.
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Counts those who are hung up on, and says it, but not of each.
#[derive(Default)]
struct HungUp(Throttle);

impl HungUp {
    fn on(&self, peer: IpAddr, reason: &'static str) {
        metrics::counter!("switchboard_connections_refused_total", "reason" => reason).increment(1);
        if let Some(others) = self.0.may_say() {
            tracing::warn!(%peer, reason, others, "a connection was hung up on: there is no place for it");
        }
    }
}

async fn serve(
    stream: TcpStream,
    peer: IpAddr,
    routes: Routes,
    place: ListenerPermit,
    mut stop: watch::Receiver<bool>,
) {
    // A message is small and wants to go now.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let has_sockets = routes.sockets.is_some();
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(32 * 1024);
    let served = if has_sockets {
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Arc::clone(&place));
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
        linger(connection.into_parts().io.into_inner()).await;
        served
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Ends a connection for someone who may still be sending what nobody wants, such as a component without a token. To close
/// it at once would reset it, and the answer, which says why, could be lost on the way.
async fn linger(mut stream: TcpStream) {
    let discarding = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    // Whoever goes on for longer, or is gone, has had its answer.
    let _ = tokio::time::timeout(LINGER, discarding).await;
}

/// Returns when `stop` turned true, or nobody can turn it any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
