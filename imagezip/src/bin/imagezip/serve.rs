//! `imagezip serve`: the state in an image as a read-only disk on a socket.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use imagezip::image::ImageDisk;
use imagezip::nbd::{Address, BindError, Export, Reach, Server};
use serde::Serialize;
use sigs::{ByteLen, Root};

use crate::exit::Usage;
use crate::incomplete;
use crate::open;
use crate::session::Session;

#[derive(Debug, Args)]
#[command(after_help = "\
Checks the images, prints the address once clients can connect, and serves until a signal ends it:

  imagezip serve base.zdi today.zdi --nbd unix:/run/today.sock
  nbdinfo --map 'nbd+unix:///?socket=/run/today.sock'
  qemu-img convert -O qcow2 'nbd+unix:///?socket=/run/today.sock' today.qcow2

Up to 16 clients at a time; one more is hung up on, which is said here. A client has 10 seconds for its handshake and
then keeps its place until it leaves, however silent it is.

Only the owner may open a unix socket. A TCP port is open to every user of this machine, with --public to others, too:
NBD asks nobody for a password, and nothing is encrypted.")]
pub(crate) struct Arguments {
    /// The image; of a delta image its bases first, then the delta
    #[arg(required = true, value_name = "IMG.zdi")]
    images: Vec<PathBuf>,
    /// Where to listen: unix:PATH or HOST:PORT; port 0 is any that is free
    #[arg(long, value_name = "ADDRESS")]
    nbd: Address,
    /// Let other machines read the disk, whoever they are
    #[arg(long)]
    public: bool,
}

#[derive(Serialize)]
struct Report {
    uri: String,
    root: Root,
    disk_bytes: ByteLen,
    complete: bool,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    let chain = open::chain(session, &arguments.images)?;
    let manifest = chain.manifest();
    incomplete::lines(manifest).iter().for_each(|line| session.say(&format!("INCOMPLETE: {line}")));
    let stop = session.stop_signal()?;
    session.check_interrupted()?;
    let reach = if arguments.public { Reach::Public } else { Reach::Loopback };
    let server = Server::bind(&arguments.nbd, reach).map_err(|error| match error {
        BindError::Public { .. } => anyhow::Error::from(Usage(error.to_string())),
        error => error.into(),
    })?;
    let uri = server.uri();
    let (root, disk_bytes) = (manifest.target_root, chain.geometry().disk_bytes);
    session.print(&Report { uri: uri.clone(), root, disk_bytes, complete: manifest.is_complete() }, &uri)?;
    let export = Export::new(ImageDisk::new(Arc::new(chain)));
    let tell = |trouble| session.say(&format!("imagezip: {:#}", anyhow::Error::from(trouble)));
    server.run(&export, stop.as_fd(), &tell).context("wait for clients")
}
