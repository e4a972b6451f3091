//! The threads of a capture and what goes between them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, select_biased};
use sigs::image_map::ImageMap;
use sigs::zdi::{FrameRecord, MAX_FRAME_RAW_BYTES, MAX_FRAME_STORED_BYTES};
use sigs::{BlockCounts, ByteLen, ChunkIndex, Digest, Root};
use zstd::bulk::Compressor;

use super::collect::Collector;
use super::scan::{Job, Scanned, Scratch};
use super::{CaptureError, CaptureOptions, FrameSink};
use crate::parallel::Alarm;

/// What a finished pass gives.
pub(super) struct Finished {
    pub(super) root: Root,
    pub(super) map: ImageMap,
    pub(super) counts: BlockCounts,
    pub(super) stored_blocks: u64,
    pub(super) frames: Vec<FrameRecord>,
}

/// A frame as it goes to the sink.
struct Packed {
    record: FrameRecord,
    stored: Vec<u8>,
}

enum Report {
    Scanned(u64, Result<Scanned, CaptureError>),
    Packed(u32, Result<Packed, CaptureError>),
}

/// Buffers that are used again instead of being given back to the system and cleared by it.
#[derive(Clone)]
struct Pool {
    put: Sender<Vec<u8>>,
    get: Receiver<Vec<u8>>,
}

impl Pool {
    fn new(buffers: usize) -> Self {
        let (put, get) = bounded(buffers);
        Self { put, get }
    }

    fn take(&self) -> Vec<u8> {
        let capacity = usize::try_from(MAX_FRAME_STORED_BYTES).unwrap_or(0);
        self.get.try_recv().unwrap_or_else(|_| Vec::with_capacity(capacity))
    }

    fn give(&self, buffer: Vec<u8>) {
        // A full pool has enough; this one is freed.
        drop(self.put.try_send(buffer));
    }
}

/// How many of what may be under way; all that bounds memory.
#[derive(Clone, Copy)]
struct Windows {
    scans: usize,
    /// No further chunk is begun while so many frames are not with the writer yet.
    frames: usize,
    /// The most frames there can be: those, and what the chunks under way turn into.
    most_frames: usize,
    written: usize,
}

impl Windows {
    const fn new(threads: usize) -> Self {
        let scans = threads.saturating_mul(2).saturating_add(2);
        let most_frames = scans.saturating_mul(2).saturating_add(2);
        Self { scans, frames: scans, most_frames, written: threads.saturating_add(2) }
    }
}

/// Runs a pass over the disk. Without a sink, frames are not made.
pub(super) fn run(
    job: &Job<'_>,
    options: &CaptureOptions<'_>,
    sink: Option<&mut dyn FrameSink>,
    signature: &mut (dyn Write + Send),
) -> Result<Finished, CaptureError> {
    let threads = options.threads.get();
    let windows = Windows::new(threads);
    let pool = Pool::new(windows.scans + windows.most_frames);
    let (scan_sender, scans) = bounded::<(u64, ChunkIndex)>(windows.scans);
    let (pack_sender, packs) = bounded::<(u32, Vec<u8>)>(windows.most_frames);
    let (report_sender, reports) = bounded(windows.scans + windows.most_frames + threads);
    let keep = sink.is_some();
    thread::scope(|scope| {
        for index in 0..threads {
            let worker = Worker {
                job: *job,
                level: options.level,
                keep,
                pool: pool.clone(),
                scans: scans.clone(),
                packs: packs.clone(),
            };
            let reports = Alarm(report_sender.clone());
            let builder = thread::Builder::new().name(format!("capture-{index}"));
            let spawned = builder.spawn_scoped(scope, move || worker.serve(&reports));
            match spawned {
                Ok(_) => {}
                Err(_) if index > 0 => break,
                Err(error) => return Err(CaptureError::Thread(error)),
            }
        }
        drop((scans, packs, report_sender));
        let (frame_sender, frames) = bounded::<Packed>(windows.written);
        let writer = match sink {
            None => None,
            Some(sink) => {
                let pool = pool.clone();
                let builder = thread::Builder::new().name("capture-writer".to_owned());
                let progress = job.control.progress;
                let write = move || {
                    for frame in frames {
                        sink.put(frame.record, &frame.stored)?;
                        progress.add_stored(ByteLen::of(&frame.stored));
                        pool.give(frame.stored);
                    }
                    Ok::<(), io::Error>(())
                };
                Some(builder.spawn_scoped(scope, write).map_err(CaptureError::Thread)?)
            }
        };
        let mut foreman = Foreman {
            job,
            windows,
            pool,
            scan_sender,
            pack_sender,
            reports,
            writer: frame_sender,
            early_frames: BTreeMap::new(),
            records: Vec::new(),
            frames_made: 0,
        };
        let outcome = foreman.lead(signature);
        let records = std::mem::take(&mut foreman.records);
        // Ends the workers and the writer, which first hands over what it has.
        drop(foreman);
        let written = writer.map_or(Ok(()), |writer| match writer.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        written.map_err(CaptureError::Sink)?;
        outcome.map(|finished| Finished { frames: records, ..finished })
    })
}

/// Gives out the work and takes the results in order, on the caller's thread.
struct Foreman<'a> {
    job: &'a Job<'a>,
    windows: Windows,
    pool: Pool,
    scan_sender: Sender<(u64, ChunkIndex)>,
    pack_sender: Sender<(u32, Vec<u8>)>,
    reports: Receiver<Option<Report>>,
    writer: Sender<Packed>,
    early_frames: BTreeMap<u32, Packed>,
    records: Vec<FrameRecord>,
    frames_made: usize,
}

impl Foreman<'_> {
    fn lead(&mut self, signature: &mut (dyn Write + Send)) -> Result<Finished, CaptureError> {
        let mut collector = Collector::new(self.job.geometry, signature)?;
        let mut chunks = self.job.layout.chunks();
        let mut early: BTreeMap<u64, Scanned> = BTreeMap::new();
        let (mut issued, mut next, mut under_way) = (0_u64, 0_u64, 0_usize);
        loop {
            if self.job.control.cancelled() {
                return Err(CaptureError::Cancelled);
            }
            while under_way < self.windows.scans && self.frames_under_way() < self.windows.frames {
                let Some(chunk) = chunks.next() else { break };
                self.scan_sender.send((issued, chunk)).map_err(|_| CaptureError::Cancelled)?;
                issued += 1;
                under_way += 1;
            }
            if under_way == 0 && self.frames_under_way() == 0 {
                break;
            }
            if let Some((number, scanned)) = self.receive()? {
                early.insert(number, scanned);
            }
            while let Some(scanned) = early.remove(&next) {
                collector.take(&scanned, &mut |frame, raw| self.pack(frame, raw))?;
                if let Some(content) = scanned.content {
                    self.pool.give(content);
                }
                next += 1;
                under_way -= 1;
            }
        }
        let done = collector.finish(&mut |frame, raw| self.pack(frame, raw))?;
        while self.frames_under_way() > 0 {
            self.receive()?;
        }
        Ok(Finished {
            root: done.root,
            map: done.map,
            counts: done.counts,
            stored_blocks: done.stored_blocks,
            frames: Vec::new(),
        })
    }

    fn frames_under_way(&self) -> usize {
        self.frames_made - self.records.len()
    }

    fn pack(&mut self, frame: u32, raw: Vec<u8>) -> Result<Vec<u8>, CaptureError> {
        self.frames_made += 1;
        self.pack_sender.send((frame, raw)).map_err(|_| CaptureError::Cancelled)?;
        Ok(self.pool.take())
    }

    /// Takes one report; a scanned chunk is returned, a frame goes to the writer when it is its turn.
    fn receive(&mut self) -> Result<Option<(u64, Scanned)>, CaptureError> {
        // No report means that a worker panicked; leaving the scope passes that on.
        let report = self.reports.recv().ok().flatten().ok_or(CaptureError::Cancelled)?;
        match report {
            Report::Scanned(number, scanned) => return Ok(Some((number, scanned?))),
            Report::Packed(frame, packed) => drop(self.early_frames.insert(frame, packed?)),
        }
        while let Ok(frame) = u32::try_from(self.records.len())
            && let Some(packed) = self.early_frames.remove(&frame)
        {
            self.records.push(packed.record);
            // A writer that is gone has an error to tell, which whoever joins it returns.
            self.writer.send(packed).map_err(|_| CaptureError::Cancelled)?;
        }
        Ok(None)
    }
}

struct Worker<'a> {
    job: Job<'a>,
    level: i32,
    keep: bool,
    pool: Pool,
    scans: Receiver<(u64, ChunkIndex)>,
    packs: Receiver<(u32, Vec<u8>)>,
}

impl Worker<'_> {
    fn serve(&self, reports: &Alarm<Report>) {
        let mut scratch = Scratch::default();
        let mut compressor = None;
        loop {
            let report = select_biased! {
                recv(self.packs) -> task => match task {
                    Ok((frame, raw)) => Report::Packed(frame, self.pack(raw, &mut compressor)),
                    Err(_) => return,
                },
                recv(self.scans) -> task => match task {
                    Ok((number, chunk)) => Report::Scanned(number, self.scan(chunk, &mut scratch)),
                    Err(_) => return,
                },
            };
            if reports.0.send(Some(report)).is_err() {
                return;
            }
        }
    }

    fn scan(&self, chunk: ChunkIndex, scratch: &mut Scratch) -> Result<Scanned, CaptureError> {
        if self.job.control.cancelled() {
            return Err(CaptureError::Cancelled);
        }
        self.job.scan(chunk, scratch, self.keep, || self.pool.take())
    }

    fn pack(&self, raw: Vec<u8>, compressor: &mut Option<Compressor<'static>>) -> Result<Packed, CaptureError> {
        let compressor = match compressor {
            Some(compressor) => compressor,
            empty => empty.insert(Compressor::new(self.level).map_err(CaptureError::Compress)?),
        };
        let mut stored = self.pool.take();
        stored.clear();
        stored.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        compressor.compress_to_buffer(&raw, &mut stored).map_err(CaptureError::Compress)?;
        let too_large = |_| CaptureError::TooLarge { what: "a frame" };
        let record = FrameRecord {
            digest: Digest::of(&stored),
            stored_bytes: u32::try_from(stored.len()).map_err(too_large)?,
            raw_bytes: u32::try_from(raw.len()).map_err(too_large)?,
        };
        debug_assert!(record.raw_bytes <= MAX_FRAME_RAW_BYTES && record.stored_bytes <= MAX_FRAME_STORED_BYTES);
        self.pool.give(raw);
        Ok(Packed { record, stored })
    }
}
