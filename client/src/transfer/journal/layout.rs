//! The bytes of a journal: records with their lengths, checksums and numbers, as `docs/formats/journal.md` has them.

use sigs::ByteLen;

use crate::transfer::record::Record;

/// What a journal begins with: magic, version 2, zeros.
pub(super) const HEADER: [u8; 16] = *b"EBBXFER\n\x02\0\0\0\0\0\0\0";
/// What one of version 1 begins with, which has no items of a boss; it is gone on with as it is.
const HEADER_1: [u8; 16] = *b"EBBXFER\n\x01\0\0\0\0\0\0\0";
/// Length, checksum and number of a record.
const FRAME_BYTES: usize = 16;
/// The longest body of a record: that of many chunks.
const MAX_BODY_BYTES: usize = 64 << 10;

/// Returns a record as bytes, or its length when that is more than a journal takes.
pub(super) fn encode(number: u64, record: &Record) -> Result<Vec<u8>, ByteLen> {
    // Paths are written as bytes, so that nothing in a record can fail to be JSON.
    let body = serde_json::to_vec(record).unwrap_or_default();
    let too_long = || ByteLen::of(&body);
    if body.is_empty() || body.len() > MAX_BODY_BYTES {
        return Err(too_long());
    }
    let len = u32::try_from(body.len()).map_err(|_| too_long())?;
    let mut bytes = Vec::with_capacity(FRAME_BYTES + body.len());
    bytes.extend(len.to_le_bytes());
    bytes.extend(checksum(len, number, &body).to_le_bytes());
    bytes.extend(number.to_le_bytes());
    bytes.extend(body);
    Ok(bytes)
}

fn checksum(len: u32, number: u64, body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&len.to_le_bytes());
    crc.update(&number.to_le_bytes());
    crc.update(body);
    crc.finalize()
}

/// What bytes say.
pub(super) struct Scan {
    /// Whether it is of a version that has items of a boss.
    pub(super) has_bosses: bool,
    /// The records up to the end or the first damage.
    pub(super) records: Vec<Record>,
    /// Where the last of them ends.
    pub(super) end: usize,
    /// What is wrong there, unless a crash may have left it.
    pub(super) damage: Option<String>,
}

/// Reads the records of a journal.
pub(super) fn scan(bytes: &[u8]) -> Scan {
    let mut scan = Scan { has_bosses: bytes.starts_with(&HEADER), records: Vec::new(), end: 0, damage: None };
    if ![HEADER, HEADER_1].iter().any(|header| bytes.starts_with(header)) {
        scan.damage = Some("is no journal of a transfer, or of a version that is not known here".to_owned());
        return scan;
    }
    scan.end = HEADER.len();
    while scan.end < bytes.len() {
        let number = u64::try_from(scan.records.len()).unwrap_or(u64::MAX);
        match parse(&bytes[scan.end..], number) {
            Ok((record, used)) => {
                scan.records.push(record);
                scan.end += used;
            }
            Err(Bad::Torn) => break,
            Err(Bad::Damaged(reason)) => {
                scan.damage = Some(reason);
                break;
            }
        }
    }
    if scan.records.is_empty() && scan.damage.is_none() {
        scan.damage = Some("has no first record".to_owned());
    }
    scan
}

/// Why bytes are not a record.
enum Bad {
    /// A crash may have left them: nothing behind them is a record.
    Torn,
    /// A record follows them, or their checksum is right and they make no sense.
    Damaged(String),
}

fn parse(bytes: &[u8], number: u64) -> Result<(Record, usize), Bad> {
    let Some((found, body)) = whole_record(bytes) else {
        // A damaged length leads anywhere, so it is not asked where this record would end.
        let followed = (1..bytes.len()).any(|at| whole_record(&bytes[at..]).is_some());
        return Err(if followed { Bad::Damaged("has a damaged record".to_owned()) } else { Bad::Torn });
    };
    if found != number {
        return Err(Bad::Damaged(format!("has record {found} where record {number} belongs")));
    }
    let record = serde_json::from_slice(body);
    let record = record.map_err(|error| Bad::Damaged(format!("has a record that is not understood ({error})")))?;
    Ok((record, FRAME_BYTES + body.len()))
}

/// Returns number and body of the record that bytes begin with, if its checksum is right.
fn whole_record(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (frame, rest) = bytes.split_at_checked(FRAME_BYTES)?;
    let (words, _) = frame.as_chunks::<4>();
    let (len, crc) = (u32::from_le_bytes(words[0]), u32::from_le_bytes(words[1]));
    let number = u64::from_le_bytes(frame.as_chunks::<8>().0[1]);
    let size = usize::try_from(len).ok().filter(|len| (1..=MAX_BODY_BYTES).contains(len))?;
    let body = rest.get(..size)?;
    (checksum(len, number, body) == crc).then_some((number, body))
}
