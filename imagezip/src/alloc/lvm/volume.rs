//! The logical volumes of a group, and which extents of the physical volume they have.
//!
//! Only a volume that is visible, that no other volume is made of, and all of whose segments lie in one piece on the
//! physical volume is looked into. The extents of the others are known all the same: whatever a RAID, a snapshot, a
//! thin pool or a cache is made of is itself a volume of plain segments. A segment of another kind that names the
//! physical volume itself (a move under way) makes an end of all that.

use std::collections::BTreeSet;

use super::LvmDoubt;
use super::fields::{list, number, only, quoted, text, words};
use super::group::name_of;
use super::text::{Section, Value};

const VOLUME_FIELDS: &[&str] = &[
    "id",
    "status",
    "flags",
    "tags",
    "creation_time",
    "creation_host",
    "allocation_policy",
    "profile",
    "read_ahead",
    "segment_count",
];
const SEGMENT_FIELDS: &[&str] = &["start_extent", "extent_count", "type", "tags", "stripe_count", "stripes"];

/// A logical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) name: String,
    /// In the order of the volume. Only a volume with a doubt may have something between them.
    pub(super) pieces: Vec<Piece>,
    /// Why its content is not looked at.
    pub(super) doubt: Option<LvmDoubt>,
}

/// Extents of a logical volume that lie together on the physical one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The first of them.
    pub(super) physical: u64,
    pub(super) count: u64,
}

/// Reads all volumes, whose extents are proved to be apart and among the `extents` there are.
pub(super) fn read(logical: &Section<'_>, physical: &str, extents: u64) -> Result<Vec<Volume>, LvmDoubt> {
    if logical.contains_key(physical) {
        return Err(LvmDoubt::Group("has a logical volume with the name of its physical one"));
    }
    let mut parts = BTreeSet::new();
    let mut volumes = Vec::new();
    for (name, value) in logical {
        let Value::Section(fields) = value else { return Err(LvmDoubt::Field("logical_volumes")) };
        volumes.push(Volume::read(name, fields, physical, &mut parts)?);
    }
    for volume in &mut volumes {
        if volume.doubt.is_none() && parts.contains(volume.name.as_str()) {
            volume.doubt = Some(LvmDoubt::Part);
        }
    }
    apart(&volumes, extents)?;
    Ok(volumes)
}

fn apart(volumes: &[Volume], extents: u64) -> Result<(), LvmDoubt> {
    let mut all: Vec<_> =
        volumes.iter().flat_map(|volume| volume.pieces.iter().map(move |piece| (*piece, volume))).collect();
    all.sort_unstable_by_key(|(piece, _)| piece.physical);
    let mut reached = 0;
    for (piece, volume) in all {
        let end = piece.physical.checked_add(piece.count).filter(|end| *end <= extents);
        match end.filter(|_| piece.physical >= reached) {
            Some(end) => reached = end,
            None => return Err(LvmDoubt::Extents { volume: volume.name.clone() }),
        }
    }
    Ok(())
}

impl Volume {
    fn read<'a>(
        name: &str,
        fields: &Section<'a>,
        physical: &str,
        parts: &mut BTreeSet<&'a str>,
    ) -> Result<Self, LvmDoubt> {
        let mut volume = Self { name: name_of(name)?, pieces: Vec::new(), doubt: status(fields)? };
        let mut names: BTreeSet<String> = VOLUME_FIELDS.iter().map(|name| (*name).to_owned()).collect();
        let mut reached = 0_u64;
        // A segment that is not there ends this, so the text bounds it, not the number.
        for index in 1..=number(fields, "segment_count")? {
            let wrong = || LvmDoubt::Extents { volume: volume.name.clone() };
            let name = format!("segment{index}");
            let Some(Value::Section(segment)) = fields.get(name.as_str()) else { return Err(wrong()) };
            names.insert(name);
            let count = number(segment, "extent_count")?;
            let next = reached.checked_add(count).filter(|_| count > 0).ok_or_else(wrong)?;
            if number(segment, "start_extent")? != reached {
                return Err(wrong());
            }
            match read_segment(segment, physical, parts)? {
                Segment::Linear(physical) => volume.pieces.push(Piece { physical, count }),
                Segment::Other(doubt) => volume.doubt = volume.doubt.or(Some(doubt)),
            }
            reached = next;
        }
        for (name, value) in fields.iter().filter(|(name, _)| !names.contains(**name)) {
            collect(value, parts);
            volume.doubt = volume.doubt.or_else(|| Some(LvmDoubt::UnknownField(quoted(name))));
        }
        Ok(volume)
    }
}

/// Where a segment lies.
enum Segment {
    /// In one piece on the physical volume, from this extent.
    Linear(u64),
    /// On other volumes, or nowhere.
    Other(LvmDoubt),
}

fn read_segment<'a>(segment: &Section<'a>, physical: &str, parts: &mut BTreeSet<&'a str>) -> Result<Segment, LvmDoubt> {
    let kind = text(segment, "type")?;
    if kind == "striped"
        && number(segment, "stripe_count")? == 1
        && let [Value::Text(name), Value::Number(first)] = list(segment, "stripes")?
        && *name == physical
    {
        only(segment, SEGMENT_FIELDS)?;
        return Ok(Segment::Linear(*first));
    }
    let mut named = BTreeSet::new();
    segment.values().for_each(|value| collect(value, &mut named));
    if named.contains(physical) {
        return Err(LvmDoubt::OnPhysical { kind: quoted(kind) });
    }
    parts.append(&mut named);
    Ok(Segment::Other(LvmDoubt::Segment { kind: quoted(kind) }))
}

/// Collects every string in a value. The depth of values is bounded by the parser.
fn collect<'a>(value: &Value<'a>, names: &mut BTreeSet<&'a str>) {
    match value {
        Value::Number(_) => {}
        Value::Text(text) => drop(names.insert(text)),
        Value::List(list) => list.iter().for_each(|value| collect(value, names)),
        Value::Section(section) => section.values().for_each(|value| collect(value, names)),
    }
}

/// Returns why the content of a volume of this status is not looked at.
fn status(fields: &Section<'_>) -> Result<Option<LvmDoubt>, LvmDoubt> {
    let status = words(fields, "status")?;
    let unusual = status.iter().find(|word| !["READ", "WRITE", "VISIBLE"].contains(word));
    if let Some(word) = unusual.or(words(fields, "flags")?.first()) {
        return Ok(Some(LvmDoubt::Status(quoted(word))));
    }
    Ok(if status.contains(&"VISIBLE") { None } else { Some(LvmDoubt::Hidden) })
}
