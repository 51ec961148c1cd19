//! How long a connection may wait for the head of a request.
//!
//! hyper has one bound for all of it: the pause before a request, and the head itself. Those are two things. A client may
//! pause between requests, so that it need not connect anew for each, but a head that has begun is a few packets, and one
//! that drips in is an attack. A connection that has never sent anything has not shown that it will.
//!
//! hyper asks [`Heads`], its timer, for a sleep when it begins to wait for a head, polls the sleep whenever it has read all
//! there is, and drops it when the head is complete. [`Noted`] tells that sleep whether bytes have arrived. So no timer and
//! no state is needed beside hyper's own.
//!
//! Invariant: of a head whose first byte arrives while hyper waits for it, the last one arrives within [`Patience::head`].
//! A first byte that was sent behind the request before is not noticed; then the pause ends it.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The bounds of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From the first byte of a head to its last, and from the start of a connection to its first head.
    pub(super) head: Duration,
    /// From an answer to the first byte of the next request.
    pub(super) pause: Duration,
}

impl Patience {
    /// For connections while there is room: longer than proxies and clients usually keep an unused connection, so that they
    /// end it and not the broker, which could do so just as they send a request.
    pub(super) const USUAL: Self = Self { head: Duration::from_secs(10), pause: Duration::from_secs(75) };
}

/// hyper's timer for one connection. hyper asks it only for the time of a head.
pub(super) struct Heads {
    patience: Patience,
    /// Whether connections should wait for as short as possible, because there are many of them.
    crowded: Box<dyn Fn() -> bool + Send + Sync>,
    is_first: AtomicBool,
    begun: Arc<AtomicBool>,
}

/// A connection that notes that something has arrived.
#[derive(Debug)]
pub(super) struct Noted<S = TcpStream> {
    stream: S,
    begun: Arc<AtomicBool>,
}

/// The wait for one head.
struct HeadSleep {
    sleep: Pin<Box<tokio::time::Sleep>>,
    head: Duration,
    begun: Arc<AtomicBool>,
    /// Whether the head has begun, and the sleep is for the rest of it.
    is_for_rest: bool,
}

impl Heads {
    /// A connection, and the timer for it.
    pub(super) fn of<S>(
        stream: S,
        patience: Patience,
        crowded: impl Fn() -> bool + Send + Sync + 'static,
    ) -> (Self, Noted<S>) {
        let begun = Arc::<AtomicBool>::default();
        let noted = Noted { stream, begun: Arc::clone(&begun) };
        (Self { patience, crowded: Box::new(crowded), is_first: AtomicBool::new(true), begun }, noted)
    }
}

impl Timer for Heads {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now())
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Sleep>> {
        let is_first = self.is_first.swap(false, Ordering::Relaxed);
        let Patience { head, pause } = self.patience;
        let wait = if is_first || (self.crowded)() { head } else { pause };
        self.begun.store(false, Ordering::Relaxed);
        Box::pin(HeadSleep {
            sleep: Box::pin(tokio::time::sleep(wait)),
            head,
            begun: Arc::clone(&self.begun),
            // A first head has as long for all of it as the connection has for its first byte.
            is_for_rest: is_first,
        })
    }
}

impl Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_for_rest && self.begun.load(Ordering::Relaxed) {
            self.is_for_rest = true;
            let by = tokio::time::Instant::now() + self.head;
            self.sleep.as_mut().reset(by);
        }
        self.sleep.as_mut().poll(context)
    }
}

impl<S> Noted<S> {
    pub(super) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        if into.filled().len() > before {
            self.begun.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::{sleep, timeout};

    use super::*;

    const NEVER: Duration = Duration::from_secs(3_600);
    const SOON: Duration = Duration::from_millis(50);

    fn serve(patience: Patience, crowded: bool) -> DuplexStream {
        let (client, server) = tokio::io::duplex(4_096);
        let (heads, noted) = Heads::of(server, patience, move || crowded);
        let answer = service_fn(async |_: Request<_>| Ok::<_, Infallible>(Response::new(String::new())));
        let mut server = http1::Builder::new();
        server.timer(heads).header_read_timeout(patience.pause);
        tokio::spawn(server.serve_connection(TokioIo::new(noted), answer));
        client
    }

    async fn ask(client: &mut DuplexStream) {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(client.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    }

    async fn is_hung_up_on(client: &mut DuplexStream) {
        let mut rest = Vec::new();
        let hung_up = timeout(Duration::from_secs(60), client.read_to_end(&mut rest));
        hung_up.await.expect("the connection ends").unwrap();
    }

    /// Sends a byte again and again until that fails.
    async fn drips(client: &mut DuplexStream) {
        let dripping = async {
            while client.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(60), dripping).await.expect("the connection ends");
    }

    #[tokio::test]
    async fn a_pause_between_requests_may_be_longer_than_a_head() {
        let mut client = serve(Patience { head: SOON, pause: NEVER }, false);
        for _ in 0..3 {
            ask(&mut client).await;
            sleep(SOON * 4).await;
        }
        ask(&mut client).await;
    }

    #[tokio::test]
    async fn a_pause_ends() {
        let mut client = serve(Patience { head: NEVER, pause: SOON }, false);
        ask(&mut client).await;
        is_hung_up_on(&mut client).await;
    }

    #[tokio::test]
    async fn where_there_is_little_room_a_pause_is_no_longer_than_a_head() {
        let mut client = serve(Patience { head: SOON, pause: NEVER }, true);
        ask(&mut client).await;
        is_hung_up_on(&mut client).await;
    }

    #[tokio::test]
    async fn a_connection_that_sends_nothing_ends_as_one_whose_head_does_not() {
        let mut client = serve(Patience { head: SOON, pause: NEVER }, false);
        is_hung_up_on(&mut client).await;
        let mut client = serve(Patience { head: SOON, pause: NEVER }, false);
        drips(&mut client).await;
    }

    #[tokio::test]
    async fn a_head_after_a_pause_has_the_time_of_a_head() {
        let mut client = serve(Patience { head: SOON, pause: NEVER }, false);
        ask(&mut client).await;
        sleep(SOON * 2).await;
        drips(&mut client).await;
        // And the time of a pause that was nearly over is not what is left for it.
        let pause = Duration::from_millis(200);
        let mut client = serve(Patience { head: NEVER, pause }, false);
        ask(&mut client).await;
        client.write_all(b"GET / HT").await.unwrap();
        sleep(pause * 2).await;
        client.write_all(b"TP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'H');
    }
}
