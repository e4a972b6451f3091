//! Listening on a unix socket that only its owner may open, or on a TCP port.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::address::{Address, Reach, tcp_uri, unix_uri};
use super::stream::Stream;

/// How many clients may wait to be taken.
const BACKLOG: i32 = 64;

/// Why there is nothing to listen on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Others could read the disk, and nobody said that they may.
    #[error(
        "{address} can be reached from other machines, and NBD asks nobody for a name or a password: listen at \
         unix:PATH or 127.0.0.1:PORT, or say --public if everybody may read this disk"
    )]
    Public {
        /// The address.
        address: SocketAddr,
    },
    /// A server is there already.
    #[error("{} is taken: a program answers there; stop it or name another path", .path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has that name; it is left alone.
    #[error("{} exists and is not a socket: name another path", .path.display())]
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
    /// The system does not allow it.
    #[error("listen at {address}")]
    System {
        /// The address.
        address: Address,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
}

/// A place where clients come in.
#[derive(Debug)]
pub(super) enum Listener {
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener, SocketAddr),
}

impl Listener {
    pub(super) fn bind(address: &Address, reach: Reach) -> Result<Self, BindError> {
        let system = |source| BindError::System { address: address.clone(), source };
        match address {
            Address::Unix(path) => {
                clear_the_way(path)?;
                let (listener, file) = bind_unix(path).map_err(system)?;
                Ok(Self::Unix(listener, file))
            }
            Address::Tcp(name) => {
                let found: Vec<_> = name.to_socket_addrs().map_err(system)?.collect();
                let public = found.iter().find(|address| !address.ip().to_canonical().is_loopback());
                if let (Some(address), Reach::Loopback) = (public, reach) {
                    return Err(BindError::Public { address: *address });
                }
                let listener = TcpListener::bind(&found[..]).map_err(system)?;
                let bound = listener.set_nonblocking(true).and_then(|()| listener.local_addr()).map_err(system)?;
                Ok(Self::Tcp(listener, bound))
            }
        }
    }

    pub(super) fn uri(&self) -> String {
        match self {
            Self::Unix(_, file) => unix_uri(&file.path),
            Self::Tcp(_, address) => tcp_uri(*address),
        }
    }

    /// Takes a client that waits, with what to call it.
    pub(super) fn accept(&self) -> io::Result<(Stream, String)> {
        match self {
            Self::Unix(listener, file) => {
                let (stream, _) = listener.accept()?;
                Ok((Stream::Unix(stream), format!("a client of {}", file.path.display())))
            }
            Self::Tcp(listener, _) => {
                let (stream, peer) = listener.accept()?;
                stream.set_nodelay(true)?;
                // A peer that lost its power must not keep its place for ever.
                net::sockopt::set_socket_keepalive(&stream, true)?;
                Ok((Stream::Tcp(stream), format!("the client at {peer}")))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener, _) => listener.as_fd(),
            Self::Tcp(listener, _) => listener.as_fd(),
        }
    }
}

/// The name of a unix socket. It goes when the server does, unless somebody else has put a file there.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // What is left of a failure is a stale socket, which the next server removes.
            drop(fs::remove_file(&self.path));
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

fn unix_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Removes a socket that nobody answers on, which is what a server that was killed leaves behind.
fn clear_the_way(path: &Path) -> Result<(), BindError> {
    let system = |source| BindError::System { address: Address::Unix(path.to_owned()), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(BindError::NotASocket { path: path.to_owned() }),
        Ok(_) => {}
    }
    let probe = unix_socket().map_err(system)?;
    let name = SocketAddrUnix::new(path).map_err(|error| system(error.into()))?;
    match net::connect(&probe, &name) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(system),
        // A server that is too busy to answer is one, too.
        Ok(()) | Err(Errno::AGAIN) => Err(BindError::Taken { path: path.to_owned() }),
        Err(error) => Err(system(error.into())),
    }
}

fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let path = std::path::absolute(path)?;
    let socket = unix_socket()?;
    // Linux gives the file the mode of the socket, so that there is no moment when others may open it.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
    let file = SocketFile { identity: identity(&path)?, path };
    net::listen(&socket, BACKLOG)?;
    Ok((UnixListener::from(socket), file))
}
