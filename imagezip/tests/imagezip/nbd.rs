//! A state served over NBD: clients of others read it right, and a hand-written one cannot do harm.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use imagezip::image::{Chain, ImageDisk, ImageSource};
use imagezip::io::fake::MemoryDisk;
use imagezip::nbd::{Address, ClientError, Export, Reach, Server, Trouble, handshake, transmit};
use sigs::BlockSize;

use crate::support::{Made, Noise, THREADS, controlled, layout, make};

mod client;
mod handshakes;
mod hostile;
mod program;
mod requests;
mod tools;

use client::Client;

/// A base and a delta against it, in blocks of 4 KiB, with data, zeros and free blocks in both.
struct Pair {
    base: Made,
    delta: Made,
    /// What the delta image describes: free blocks are zero.
    state: Vec<u8>,
    /// For each block of it: is it free.
    free: Vec<bool>,
}

const BLOCK: usize = 4096;

/// A server that says nothing at all any more fails a test instead of stopping it.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

impl Pair {
    fn new() -> Self {
        let len = (5 << 20) + 512;
        let mut disk = vec![0; len];
        Noise(9).fill(&mut disk[..2 << 20]);
        Noise(10).fill(&mut disk[3 << 20..4 << 20]);
        // Zeros among data, among them a single block.
        disk[100 * BLOCK..120 * BLOCK].fill(0);
        disk[200 * BLOCK..201 * BLOCK].fill(0);
        let used = vec![(0, 1 << 20), ((1 << 20) + 65_536, 3 << 20), (5 << 20, 512)];
        let base = make(&disk, &layout(&disk, used.clone()), &[], BlockSize::DEFAULT).unwrap();
        Noise(11).fill(&mut disk[300_000..350_000]);
        Noise(12).fill(&mut disk[5 << 20..]);
        let delta_layout = layout(&disk, used);
        let delta = make(&disk, &delta_layout, &[&base], BlockSize::DEFAULT).unwrap();
        let mut free = vec![true; len.div_ceil(BLOCK)];
        for range in delta_layout.allocated() {
            let start = usize::try_from(range.start.get()).unwrap();
            free[start / BLOCK..(start + range.len.to_usize().unwrap()).div_ceil(BLOCK)].fill(false);
        }
        let blocks = disk.chunks(BLOCK).zip(&free);
        let state = blocks.flat_map(|(block, free)| block.iter().map(move |byte| if *free { 0 } else { *byte }));
        let state = state.collect();
        Self { base, delta, state, free }
    }

    fn write(&self, folder: &Path) {
        std::fs::write(folder.join("base.zdi"), &self.base.image).unwrap();
        std::fs::write(folder.join("delta.zdi"), &self.delta.image).unwrap();
    }

    fn export(&self) -> Export {
        self.export_of(Arc::new(MemoryDisk::new(self.delta.image.clone())))
    }

    fn export_of(&self, delta: Arc<MemoryDisk>) -> Export {
        let base = ImageSource { name: "base".to_owned(), bytes: Arc::new(self.base.image.clone()) };
        let chain = Chain::open(ImageSource { name: "delta".to_owned(), bytes: delta }, vec![base]).unwrap();
        let chain = controlled(|control| chain.verify(THREADS, control)).unwrap();
        Export::new(ImageDisk::new(Arc::new(chain)))
    }

    /// The extents of `base:allocation`: length and flags, longest first possible.
    fn extents(&self) -> Vec<(u64, u32)> {
        let mut extents: Vec<(u64, u32)> = Vec::new();
        for (block, free) in self.state.chunks(BLOCK).zip(&self.free) {
            let flags = match (free, block.iter().all(|byte| *byte == 0)) {
                (true, _) => 3,
                (false, true) => 2,
                (false, false) => 0,
            };
            let len = u64::try_from(block.len()).unwrap();
            match extents.last_mut() {
                Some(last) if last.1 == flags => last.0 += len,
                _ => extents.push((len, flags)),
            }
        }
        extents
    }
}

/// How a conversation ended for the server, and what it said on the way.
type Ending = (Result<(), ClientError>, Vec<Trouble>);

/// Talks to a server over a pair of sockets.
fn talk<T>(export: &Export, client: impl FnOnce(&mut Client<UnixStream>) -> T) -> (T, Ending) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(PATIENCE).unwrap();
    let troubles = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let mut input = io::BufReader::new(&theirs);
            let mut output = &theirs;
            let result = handshake(&mut input, &mut output, export).and_then(|agreed| match agreed {
                Some(agreed) => {
                    transmit(&mut input, &mut output, export, agreed, &|trouble| troubles.lock().unwrap().push(trouble))
                }
                None => Ok(()),
            });
            theirs.shutdown(std::net::Shutdown::Both).ok();
            result
        });
        let result = client(&mut Client::new(ours));
        let ending = server.join().unwrap();
        (result, (ending, std::mem::take(&mut *troubles.lock().unwrap())))
    })
}

/// Runs a server on a free port of this machine while `work` knows where; returns what troubled it.
fn serve<T>(export: &Export, work: impl FnOnce(&dyn Fn() -> TcpStream) -> T) -> (T, Vec<String>) {
    let server = Server::bind(&"127.0.0.1:0".parse::<Address>().unwrap(), Reach::Loopback).unwrap();
    let address = server.uri().strip_prefix("nbd://").unwrap().to_owned();
    let (stop, stopped) = UnixStream::pair().unwrap();
    let troubles = Mutex::new(Vec::new());
    let tell = |trouble: Trouble| troubles.lock().unwrap().push(trouble.to_string());
    let result = thread::scope(|scope| {
        let server = scope.spawn(|| server.run(export, stopped.as_fd(), &tell));
        // It has to end also when `work` panics: a pipe that is closed can be read from.
        let stop = stop;
        let result = work(&|| {
            let stream = TcpStream::connect(&address).unwrap();
            stream.set_read_timeout(PATIENCE).unwrap();
            stream
        });
        drop(stop);
        server.join().unwrap().unwrap();
        result
    });
    (result, troubles.into_inner().unwrap())
}
