//! Sending a file to a boss, as an object. The receiver is the journal: what boss has of it, boss says, by the digests of
//! pieces; so after a cut the file is read once more, and only what is lacking is sent.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use boss_api::user::MAX_PIECE;
use sha2::{Digest as _, Sha256};
use sigs::{ByteLen, Digest};

use super::TransferError;
use super::boss::{Line, Unanswered};
use super::origin::{Origin, changed, line_to, refused};
use super::record::Record;
use super::recover::Action;
use super::run::{Attempt, failed};
use super::state::{Item, Sealed};

/// How many pieces are offered at once. boss may have to read them back before it answers.
const OFFER: usize = 256;
/// How often everything is offered. More than once only if boss lost what it had said that it has.
const ROUNDS: u32 = 3;

/// What a file is: its digest, and those of its pieces in order.
struct Pieces {
    object: Digest,
    pieces: Vec<Digest>,
}

impl Attempt<'_> {
    /// Sends a file, whatever was sent of it before.
    pub(super) fn send_file(&self, number: u32, item: &Item, action: Action) -> Result<(), TransferError> {
        match action {
            Action::Nothing => return Ok(()),
            Action::Fail(loss) => return Err(TransferError::Lost { item: loss.place(item), loss }),
            Action::Begin => self.seal(number, item)?,
            Action::Continue | Action::StartOver | Action::Finish | Action::RecordName | Action::RecordNameAndTidy => {}
        }
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        let Some(item) = self.item(place) else { return Ok(()) };
        let line = line_to(self.line, &item.destination)?;
        let Some(Origin::File(mut file, path, seal)) = Origin::open(&item, self.line)? else { return Ok(()) };
        let check = |file: &File| Origin::File(file.try_clone().map_err(failed("open", path))?, path, seal).check();
        check(&file)?;
        let found = self.pieces_of(&mut file, path)?;
        // Before anything is said about it: its digest is that of what was sealed.
        check(&file)?;
        let size = item.sealed.as_ref().map_or(ByteLen::ZERO, Sealed::size);
        let sent = self.send(line, (&file, path), &found, size).map_err(|why| match why {
            Unsent::Refused(Unanswered::Refused(error)) => refused("send to", &item.destination)(error),
            Unsent::Refused(Unanswered::Stopped) => TransferError::Stopped,
            Unsent::Local(error) => error,
        });
        sent?;
        self.record(&Record::Stored { item: number, digest: found.object })
    }

    fn pieces_of(&self, file: &mut File, path: &Path) -> Result<Pieces, TransferError> {
        file.seek(SeekFrom::Start(0)).map_err(failed("read", path))?;
        let (mut whole, mut pieces, mut buffer) = (Sha256::new(), Vec::new(), Vec::new());
        loop {
            self.stop.check()?;
            buffer.clear();
            (&mut *file).take(MAX_PIECE.get()).read_to_end(&mut buffer).map_err(failed("read", path))?;
            if buffer.is_empty() {
                return Ok(Pieces { object: Digest::from_bytes(whole.finalize().into()), pieces });
            }
            whole.update(&buffer);
            pieces.push(Digest::of(&buffer));
        }
    }

    fn send(&self, line: &Line, (file, path): (&File, &Path), found: &Pieces, size: ByteLen) -> Result<(), Unsent> {
        for _ in 0..ROUNDS {
            // Somebody else may have sent the same meanwhile.
            if line.begin(found.object, size, &self.stop)? {
                return Ok(());
            }
            for (batch, offered) in (0_u64..).zip(found.pieces.chunks(OFFER)) {
                let first = batch.saturating_mul(u64::try_from(OFFER).unwrap_or(u64::MAX));
                let mut lacking: HashSet<_> = line.lacking(found.object, offered, &self.stop)?.into_iter().collect();
                for (number, piece) in (first..).zip(offered) {
                    if lacking.remove(piece) {
                        let bytes = read_piece(file, path, (number, size))?;
                        if Digest::of(&bytes) != *piece {
                            return Err(changed(path).into());
                        }
                        self.pace.wait(ByteLen::of(&bytes), &self.stop).map_err(TransferError::from)?;
                        line.put(found.object, *piece, &bytes, &self.stop)?;
                    }
                }
            }
            if line.finish(found.object, &found.pieces, &self.stop)? {
                return Ok(());
            }
        }
        Err(TransferError::Forgetful { boss: line.address().to_string() }.into())
    }
}

fn read_piece(file: &File, path: &Path, (number, size): (u64, ByteLen)) -> Result<Vec<u8>, TransferError> {
    let start = number.saturating_mul(MAX_PIECE.get());
    let len = size.get().saturating_sub(start).min(MAX_PIECE.get());
    let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
    file.read_exact_at(&mut bytes, start).map_err(failed("read", path))?;
    Ok(bytes)
}

/// Why a file was not sent.
enum Unsent {
    /// boss did not take it.
    Refused(Unanswered),
    /// It is not to be had here.
    Local(TransferError),
}

impl From<Unanswered> for Unsent {
    fn from(why: Unanswered) -> Self {
        Self::Refused(why)
    }
}

impl From<TransferError> for Unsent {
    fn from(error: TransferError) -> Self {
        Self::Local(error)
    }
}
