//! All records of the file table: every cluster that one of them names is marked, and Windows is not hibernated.

use super::record::{Attribute, Record};
use super::runs::{Content, Runs};
use super::{NtfsDoubt, TABLE, Volume};
use crate::alloc::bytes::{array, u8_at, u64_at};
use crate::alloc::clusters::{PIECE, holds};
use crate::alloc::doubt::Stop;
use crate::extents::Extents;

/// The folder at the top.
const ROOT: u64 = 5;
const HIBERNATION: &str = "hiberfil.sys";

/// Looks at all records, and returns how many are in use. Parts of the table that other records describe are found on
/// the way.
pub(super) fn check(volume: &mut Volume<'_>, allocated: &Extents) -> Result<u64, Stop> {
    let (mut used, mut at) = (0, 0);
    let mut later: Vec<Runs> = Vec::new();
    let record = volume.boot.record;
    while at < volume.table.len {
        let described = volume.table.clusters.saturating_mul(volume.boot.clusters.size);
        if at >= described {
            let next = later.iter().position(|runs| runs.first == volume.table.clusters);
            let grown = next.is_some_and(|next| volume.table.go_on(later.swap_remove(next)));
            if !grown {
                return Err(NtfsDoubt::Record { record: TABLE, what: "does not describe all of the table" }.into());
            }
            continue;
        }
        let len = PIECE.min(described - at).min(volume.table.len - at) / record * record;
        let missing = NtfsDoubt::Record { record: at / record, what: "is not there" };
        let piece = volume.table.fetch(volume.window, at, len)?.filter(|piece| !piece.is_empty()).ok_or(missing)?;
        for (number, bytes) in (at / record..).zip(piece.chunks_exact(usize::try_from(record).unwrap_or(4096))) {
            let Some(record) = Record::parse(number, bytes)? else { continue };
            used += 1;
            later.extend(check_record(volume, number, &record, allocated)?);
        }
        at += len;
    }
    Ok(used)
}

/// Looks at all attributes of a record; returns further parts of the file table.
fn check_record(volume: &Volume<'_>, number: u64, record: &Record, allocated: &Extents) -> Result<Option<Runs>, Stop> {
    let mut table = None;
    let attributes = record.attributes()?;
    for attribute in attributes.iter().filter(|attribute| attribute.has_runs()) {
        let malformed = NtfsDoubt::Record { record: number, what: "has content where it cannot be" };
        let runs = Runs::parse(attribute, volume.boot.clusters).ok_or(malformed)?;
        if !runs.places.iter().all(|place| holds(allocated, *place)) {
            return Err(NtfsDoubt::NotMarked { record: number }.into());
        }
        let of_table = record.base == Some(TABLE) && attribute.kind == Attribute::DATA && attribute.is_unnamed();
        if of_table {
            table = Some(runs);
        }
    }
    if attributes.iter().any(is_hibernation_file) {
        check_awake(volume, number, record)?;
    }
    Ok(table)
}

/// Returns true for the name of the file in which Windows keeps its memory.
fn is_hibernation_file(attribute: &Attribute<'_>) -> bool {
    let name = || {
        let value = attribute.resident().filter(|_| attribute.kind == Attribute::FILE_NAME)?;
        let folder = u64_at(value, 0)? & 0xFFFF_FFFF_FFFF;
        let len = usize::from(u8_at(value, 64)?);
        let units = value.get(66..)?.get(..len * 2)?.as_chunks::<2>().0;
        let name: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
        Some((folder, String::from_utf16(&name).ok()?))
    };
    name().is_some_and(|(folder, name)| folder == ROOT && name.eq_ignore_ascii_case(HIBERNATION))
}

/// A hibernation file of a machine that is awake begins with zeros, or says so.
fn check_awake(volume: &Volume<'_>, number: u64, record: &Record) -> Result<(), Stop> {
    let data = record.data().map_err(|_| NtfsDoubt::Hibernated)?;
    let content = Content::of(number, &data, volume.boot.clusters);
    let start = match content {
        Ok(content) if content.len == 0 => return Ok(()),
        Ok(content) => content.fetch(volume.window, 0, 4.min(content.len))?,
        // A short one is in its record.
        Err(_) => data.resident().map(<[u8]>::to_vec),
    };
    let start = start.and_then(|start| array::<4>(&start, 0)).ok_or(NtfsDoubt::Hibernated)?;
    if start == [0; 4] || start.eq_ignore_ascii_case(b"wake") { Ok(()) } else { Err(NtfsDoubt::Hibernated.into()) }
}
