//! The server: takes clients, gives each a thread, and ends all of them when it is told to stop.

use std::io::{self, BufReader, ErrorKind};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::address::{Address, Reach};
use super::listener::{BindError, Listener};
use super::stream::{Stream, Timed};
use super::{ClientError, Export, Trouble, handshake, transmit};

/// How many connections there may be at a time.
pub const MOST_CLIENTS: usize = 16;
/// A client that has not taken the disk after this time is in the way of others.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long to wait when the system has no room for a client.
const PAUSE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
}

impl Server {
    /// Begins to listen; clients wait until [`Server::run`]. A unix socket is removed when the server is dropped.
    ///
    /// # Errors
    /// [`BindError`] when the address is taken or cannot be used, or is for others to reach against `reach`.
    pub fn bind(address: &Address, reach: Reach) -> Result<Self, BindError> {
        Ok(Self { listener: Listener::bind(address, reach)? })
    }

    /// Returns what clients call this server.
    pub fn uri(&self) -> String {
        self.listener.uri()
    }

    /// Serves until `stop` can be read from; `tell` hears what goes wrong on the way.
    ///
    /// # Errors
    /// What the system says when it cannot wait for clients.
    pub fn run(self, export: &Export, stop: BorrowedFd<'_>, tell: &(dyn Fn(Trouble) + Sync)) -> io::Result<()> {
        let mut clients: Vec<Weak<Stream>> = Vec::new();
        let stopping = AtomicBool::new(false);
        thread::scope(|scope| {
            let mut take = || {
                let (stream, peer) = self.listener.accept()?;
                clients.retain(|client| client.strong_count() > 0);
                if clients.len() >= MOST_CLIENTS {
                    tell(Trouble::Full { peer });
                    return Ok(());
                }
                let stream = Arc::new(stream);
                clients.push(Arc::downgrade(&stream));
                let stopping = &stopping;
                let work = move || match converse(&stream, export, tell) {
                    Err(source) if !stopping.load(Ordering::Relaxed) => tell(Trouble::Client { peer, source }),
                    _ => {}
                };
                thread::Builder::new().name("nbd".to_owned()).spawn_scoped(scope, work).map(drop)
            };
            let result = self.take_until(stop, &mut take, tell);
            stopping.store(true, Ordering::Relaxed);
            clients.iter().filter_map(Weak::upgrade).for_each(|client| client.shut_down());
            result
        })
    }

    fn take_until(
        &self,
        stop: BorrowedFd<'_>,
        take: &mut dyn FnMut() -> io::Result<()>,
        tell: &(dyn Fn(Trouble) + Sync),
    ) -> io::Result<()> {
        while !wait(stop, Some(&self.listener), None)? {
            match take() {
                // The client went away again before it was taken.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => {}
                Err(error) => {
                    tell(Trouble::Accept(error));
                    if wait(stop, None, Some(&PAUSE))? {
                        return Ok(());
                    }
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

/// Waits for a client or for the time to pass; returns true when it is time to stop.
fn wait(stop: BorrowedFd<'_>, listener: Option<&Listener>, time: Option<&Timespec>) -> io::Result<bool> {
    let mut all = vec![PollFd::from_borrowed_fd(stop, PollFlags::IN)];
    all.extend(listener.map(|listener| PollFd::new(listener, PollFlags::IN)));
    loop {
        match poll(&mut all, time) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(all.first().is_some_and(|stop| !stop.revents().is_empty())),
        }
    }
}

/// Does all there is to do for one client.
fn converse(stream: &Stream, export: &Export, tell: &(dyn Fn(Trouble) + Sync)) -> Result<(), ClientError> {
    let deadline = Instant::now() + HANDSHAKE_TIME;
    let mut input = BufReader::new(Timed::new(stream, deadline));
    let mut output = Timed::new(stream, deadline);
    let Some(agreed) = handshake(&mut input, &mut output, export)? else { return Ok(()) };
    input.get_mut().release()?;
    transmit(&mut input, &mut &*stream, export, agreed, tell)
}
