//! Connections whose peer takes nothing any more: they end, and with them whatever is held for it.
//!
//! While a peer takes nothing, nobody asks for more of what is sent to it: neither a handler nor the body of an answer
//! can notice. What notices is the connection, where the bytes would go.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A peer that sends or takes nothing for so long, when it is its turn, is gone.
pub const STALL: Duration = Duration::from_secs(60);

/// Listens for connections that end when the peer takes nothing for [`STALL`].
#[derive(Debug)]
pub struct UnlessStalled<L>(pub L);

impl<L: Listener> Listener for UnlessStalled<L> {
    type Io = Connection<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = self.0.accept().await;
        (Connection { stream, waits: None }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// A connection that ends when the peer takes nothing for [`STALL`].
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    /// Until when the peer may still take nothing; only while there is something that it does not take.
    waits: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
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
            return Poll::Ready(written);
        }
        ready!(self.waits.get_or_insert_with(|| Box::pin(sleep(STALL))).as_mut().poll(cx));
        let reason = format!("the peer took nothing for {} s", STALL.as_secs());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)))
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
        let _serving = tokio::spawn(axum::serve(UnlessStalled(One(Some(ours))), router).into_future());
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
