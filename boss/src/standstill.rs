//! Connections whose peer takes nothing any more, or is silent for longer than it would wait for an answer: they end, and
//! with them whatever is held for it.
//!
//! While a peer takes nothing, nobody asks for more of what is sent to it: neither a handler nor the body of an answer
//! can notice. What notices is the connection, where the bytes would go.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A peer that sends or takes nothing for so long, when it is its turn, is gone.
pub const STALL: Duration = Duration::from_secs(60);

/// How long nothing may come and go between boss and an agent. An agent waits for no answer as long as that, so whoever
/// is silent for so long has nothing to hear either.
pub const AGENT_SILENCE: Duration = Duration::from_secs(600);

/// How long nothing may come and go between boss and people's programs, which wait an hour while boss reads back.
pub const PEOPLE_SILENCE: Duration = Duration::from_secs(2 * 3600);

/// Listens for connections that end when their peer stands still.
#[derive(Debug)]
pub struct UnlessStalled<L> {
    /// What is listened to.
    pub listener: L,
    /// How long a peer may take nothing of what is there for it.
    pub takes_within: Duration,
    /// How long nothing may come and go.
    pub silence: Duration,
}

impl<L: Listener> Listener for UnlessStalled<L> {
    type Io = Connection<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = self.listener.accept().await;
        let Self { takes_within, silence, .. } = *self;
        (Connection { stream, takes_within, waits: None, silence, silent: None }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when its peer stands still.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    takes_within: Duration,
    /// Until when the peer may still take nothing; only while there is something that it does not take.
    waits: Option<Pin<Box<Sleep>>>,
    silence: Duration,
    /// Until when something must come or go; only once somebody listens.
    silent: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, into) {
            self.moved();
            return Poll::Ready(read);
        }
        let silence = self.silence;
        ready!(self.silent.get_or_insert_with(|| Box::pin(sleep(silence))).as_mut().poll(cx));
        Poll::Ready(Err(stands_still("the peer was silent", silence)))
    }
}

fn stands_still(what: &str, limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} for {} s", limit.as_secs()))
}

impl<S> Connection<S> {
    /// Something came or went. Whoever listens is still woken at the end of the silence, which begins anew.
    fn moved(&mut self) {
        let until = Instant::now() + self.silence;
        self.silent.iter_mut().for_each(|silent| silent.as_mut().reset(until));
    }
}

impl<S: Unpin> Connection<S> {
    fn unless_stalled(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = write(Pin::new(&mut self.stream), cx) {
            self.waits = None;
            self.moved();
            return Poll::Ready(written);
        }
        let limit = self.takes_within;
        ready!(self.waits.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(cx));
        Poll::Ready(Err(stands_still("the peer took nothing", limit)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.unless_stalled(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unless_stalled(cx, |stream, cx| stream.poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::body::{Body, Bytes};
    use axum::routing::get;
    use futures_util::{StreamExt as _, stream};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    /// Has one peer.
    struct One(Option<DuplexStream>);

    impl Listener for One {
        type Io = DuplexStream;
        type Addr = ();

        async fn accept(&mut self) -> (DuplexStream, ()) {
            match self.0.take() {
                Some(stream) => (stream, ()),
                None => std::future::pending().await,
            }
        }

        fn local_addr(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// How long a peer may be silent here.
    const SILENCE: Duration = Duration::from_secs(600);

    fn serve(ours: DuplexStream, router: Router) {
        let listener = UnlessStalled { listener: One(Some(ours)), takes_within: STALL, silence: SILENCE };
        let _serving = tokio::spawn(axum::serve(listener, router).into_future());
    }

    /// Asks for an answer without an end; returns the connection, and what ends when the body of the answer is dropped.
    async fn asking() -> (DuplexStream, oneshot::Receiver<()>) {
        let (ours, mut theirs) = duplex(1 << 10);
        let (held, ends) = oneshot::channel::<()>();
        let body = stream::repeat(Bytes::from_static(&[7; 512])).map(move |piece| {
            assert!(!held.is_closed(), "somebody listens");
            Ok::<_, io::Error>(piece)
        });
        let once = Arc::new(Mutex::new(Some(Body::from_stream(body))));
        let router = Router::new().route("/", get(async move || once.lock().unwrap().take().unwrap()));
        serve(ours, router);
        theirs.write_all(b"GET / HTTP/1.1\r\nhost: boss\r\n\r\n").await.unwrap();
        (theirs, ends)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_for_a_peer_that_takes_nothing_is_let_go() {
        let (_theirs, ends) = asking().await;
        let ended = timeout(STALL * 2, ends).await;
        assert!(ended.expect("it is held without end").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_more_is_hung_up_on() {
        let body = async |body: Bytes| body.len().to_string();
        for said in [
            "",
            "GE",
            "GET / HTTP/1.1\r\nhost: boss\r\n",
            "GET / HTTP/1.1\r\nhost: boss\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: boss\r\ncontent-length: 9\r\n\r\npart",
        ] {
            let (ours, mut theirs) = duplex(1 << 10);
            serve(ours, Router::new().route("/", get(body)));
            theirs.write_all(said.as_bytes()).await.unwrap();
            let ended = timeout(SILENCE * 2, theirs.read_to_end(&mut Vec::new())).await;
            ended.unwrap_or_else(|_| panic!("after {said:?} it is held without end")).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_an_answer_or_rests_is_no_silent_peer() {
        let (ours, mut theirs) = duplex(1 << 10);
        let slow = async || {
            sleep(SILENCE / 4 * 3).await;
            "done"
        };
        serve(ours, Router::new().route("/", get(slow)));
        for _ in 0..5 {
            theirs.write_all(b"GET / HTTP/1.1\r\nhost: boss\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"done") {
                answer.push(theirs.read_u8().await.unwrap());
            }
            sleep(SILENCE / 4 * 3).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_is_waited_for() {
        let (mut theirs, mut ends) = asking().await;
        for _ in 0..9 {
            // More than all that is on its way, so that something moves each time.
            let mut some = vec![0; 64 << 10];
            theirs.read_exact(&mut some).await.unwrap();
            assert!(timeout(STALL / 4 * 3, &mut ends).await.is_err(), "it was hung up on");
        }
    }
}
