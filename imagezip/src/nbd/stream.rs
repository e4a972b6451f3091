//! A connection, of either kind; and a time by which something has to be over.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A connection to a client.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    /// Ends it, also for threads that wait in the middle of reading or writing.
    pub(super) fn shut_down(&self) {
        // One that has ended already is what was wanted.
        drop(match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
        });
    }

    fn set_time_out(&self, time: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_read_timeout(time).and_then(|()| stream.set_write_timeout(time)),
            Self::Tcp(stream) => stream.set_read_timeout(time).and_then(|()| stream.set_write_timeout(time)),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => (&mut &*stream).read(buf),
            Stream::Tcp(stream) => (&mut &*stream).read(buf),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => (&mut &*stream).write(buf),
            Stream::Tcp(stream) => (&mut &*stream).write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream that fails once a deadline has passed, however slowly bytes keep coming.
#[derive(Debug)]
pub(super) struct Timed<'a> {
    stream: &'a Stream,
    deadline: Option<Instant>,
}

impl<'a> Timed<'a> {
    pub(super) const fn new(stream: &'a Stream, deadline: Instant) -> Self {
        Self { stream, deadline: Some(deadline) }
    }

    /// From now on it may take as long as it takes.
    pub(super) fn release(&mut self) -> io::Result<()> {
        self.deadline = None;
        self.stream.set_time_out(None)
    }

    fn within<T>(&mut self, work: impl FnOnce(&mut &'a Stream) -> io::Result<T>) -> io::Result<T> {
        let Some(deadline) = self.deadline else { return work(&mut self.stream) };
        let late = || io::Error::new(ErrorKind::TimedOut, "the handshake took too long");
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        self.stream.set_time_out(Some(left))?;
        work(&mut self.stream).map_err(|error| if error.kind() == ErrorKind::WouldBlock { late() } else { error })
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.within(|stream| stream.read(buf))
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.within(|stream| stream.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_a_client_that_does_not_read_end_at_the_deadline() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let stream = Stream::Unix(ours);
        let mut timed = Timed::new(&stream, Instant::now() + Duration::from_millis(20));
        assert_eq!(timed.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(timed.write_all(&[0]).unwrap_err().kind(), ErrorKind::TimedOut);
        let mut timed = Timed::new(&stream, Instant::now() + Duration::from_millis(20));
        assert_eq!(timed.write_all(&vec![0; 8 << 20]).unwrap_err().kind(), ErrorKind::TimedOut);
        timed.release().unwrap();
        (&theirs).write_all(&[7]).unwrap();
        let mut byte = [0];
        timed.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [7]);
    }
}
