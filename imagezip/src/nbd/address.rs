//! Where a server listens, as people write it.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `HOST:PORT`, not looked up yet; port 0 is any that is free.
    Tcp(String),
}

/// Who may reach a server over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Programs on this machine.
    Loopback,
    /// Everybody who has a way to this machine.
    Public,
}

/// Text that is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither unix:PATH nor HOST:PORT")]
pub struct BadAddress(String);

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        match text.strip_prefix("unix:") {
            Some("") => Err(bad()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => {
                let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
                let good = !host.is_empty() && port.parse::<u16>().is_ok();
                good.then(|| Self::Tcp(text.to_owned())).ok_or_else(bad)
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => f.write_str(address),
        }
    }
}

/// Returns how clients name a unix socket; `path` is absolute.
pub(super) fn unix_uri(path: &Path) -> String {
    let mut uri = "nbd+unix:///?socket=".to_owned();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            // A String takes everything.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

/// Returns how clients name a port.
pub(super) fn tcp_uri(address: SocketAddr) -> String {
    format!("nbd://{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_written_or_refused() {
        for (text, address) in [
            ("unix:/run/a b", Address::Unix("/run/a b".into())),
            ("unix:x:1", Address::Unix("x:1".into())),
            ("[::1]:0", Address::Tcp("[::1]:0".to_owned())),
            ("localhost:10809", Address::Tcp("localhost:10809".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(address));
        }
        for bad in ["", "unix:", "/run/x", "host", "host:", ":1", "host:65536", "host:nbd"] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
        assert_eq!(unix_uri(Path::new("/a b/ü?&%")), "nbd+unix:///?socket=/a%20b/%C3%BC%3F%26%25");
        assert_eq!(tcp_uri("[::1]:7".parse().unwrap()), "nbd://[::1]:7");
    }
}
