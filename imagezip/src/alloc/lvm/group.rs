//! A volume group of one physical volume, as its metadata have it.

use super::LvmDoubt;
use super::fields::{number, only, quoted, section, text, words};
use super::text::{self as format, Section, Value};
use super::volume::{self, Volume};

/// LVM keeps all its sizes in sectors of this size.
const SECTOR: u64 = 512;
/// LVM accepts no longer names.
const MOST_NAME: usize = 127;

const FILE_FIELDS: &[&str] = &["contents", "version", "description", "creation_host", "creation_time"];
const GROUP_FIELDS: &[&str] = &[
    "id",
    "seqno",
    "format",
    "status",
    "flags",
    "tags",
    "system_id",
    "lock_type",
    "lock_args",
    "profile",
    "extent_size",
    "max_lv",
    "max_pv",
    "allocation_policy",
    "metadata_copies",
    "physical_volumes",
    "logical_volumes",
    "historical_logical_volumes",
];
const PHYSICAL_FIELDS: &[&str] = &[
    "id",
    "device",
    "device_id",
    "device_id_type",
    "status",
    "flags",
    "tags",
    "dev_size",
    "pe_start",
    "pe_count",
    "ba_start",
    "ba_size",
];

/// A volume group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: String,
    /// Counts the changes. Two copies of the metadata with different numbers are never both current.
    pub(super) sequence: u64,
    pub(super) extent_bytes: u64,
    pub(super) physical: Physical,
    pub(super) volumes: Vec<Volume>,
}

/// The one physical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Physical {
    /// Without dashes.
    pub(super) id: String,
    /// Where the extents begin and end, in bytes.
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Group {
    /// Reads the text of a metadata area.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, LvmDoubt> {
        let file = format::parse(bytes).map_err(|malformed| LvmDoubt::Text { at: malformed.at })?;
        if text(&file, "contents")? != "Text Format Volume Group" || number(&file, "version")? != 1 {
            return Err(LvmDoubt::Field("version"));
        }
        let mut groups = file.iter().filter(|(name, _)| !FILE_FIELDS.contains(name));
        match (groups.next(), groups.next()) {
            (Some((name, Value::Section(group))), None) => Self::read(name, group),
            _ => Err(LvmDoubt::Group("is not the only thing in its metadata")),
        }
    }

    fn read(name: &str, group: &Section<'_>) -> Result<Self, LvmDoubt> {
        only(group, GROUP_FIELDS)?;
        check(group)?;
        let sequence = number(group, "seqno")?;
        let extent_bytes = number(group, "extent_size")?.checked_mul(SECTOR).filter(|bytes| *bytes > 0);
        let extent_bytes = extent_bytes.ok_or(LvmDoubt::Field("extent_size"))?;
        let mut all = section(group, "physical_volumes")?.iter();
        let (Some((physical_name, Value::Section(found))), None) = (all.next(), all.next()) else {
            return Err(LvmDoubt::Group("does not have exactly one physical volume"));
        };
        let (physical, extents) = Physical::read(found, extent_bytes)?;
        let none = Section::new();
        let logical = match group.get("logical_volumes") {
            None => &none,
            Some(Value::Section(logical)) => logical,
            Some(_) => return Err(LvmDoubt::Field("logical_volumes")),
        };
        let volumes = volume::read(logical, physical_name, extents)?;
        Ok(Self { name: name_of(name)?, sequence, extent_bytes, physical, volumes })
    }
}

impl Physical {
    /// Returns the volume and how many extents it has.
    fn read(fields: &Section<'_>, extent_bytes: u64) -> Result<(Self, u64), LvmDoubt> {
        only(fields, PHYSICAL_FIELDS)?;
        if words(fields, "status")?.iter().any(|word| *word != "ALLOCATABLE") || !words(fields, "flags")?.is_empty() {
            return Err(LvmDoubt::Group("has a physical volume with an unusual status"));
        }
        let count = number(fields, "pe_count")?;
        let start = number(fields, "pe_start")?.checked_mul(SECTOR).ok_or(LvmDoubt::Field("pe_start"))?;
        let end = count.checked_mul(extent_bytes).and_then(|len| start.checked_add(len));
        let end = end.ok_or(LvmDoubt::Field("pe_count"))?;
        if number(fields, "dev_size")?.checked_mul(SECTOR).is_none_or(|device| end > device) {
            return Err(LvmDoubt::Field("dev_size"));
        }
        Ok((Self { id: text(fields, "id")?.replace('-', ""), start, end }, count))
    }
}

/// Refuses a group that is not an ordinary one of this machine alone.
fn check(group: &Section<'_>) -> Result<(), LvmDoubt> {
    if text(group, "format")? != "lvm2" {
        return Err(LvmDoubt::Field("format"));
    }
    for word in words(group, "status")? {
        match word {
            "RESIZEABLE" | "READ" | "WRITE" => {}
            "EXPORTED" => return Err(LvmDoubt::Group("is exported")),
            "PARTIAL" => return Err(LvmDoubt::Group("is partial")),
            "PVMOVE" => return Err(LvmDoubt::Group("has extents that are being moved")),
            "CLUSTERED" | "SHARED" => return Err(LvmDoubt::Group("is shared with other machines")),
            other => return Err(LvmDoubt::Status(quoted(other))),
        }
    }
    if let Some(flag) = words(group, "flags")?.first() {
        return Err(LvmDoubt::Status(quoted(flag)));
    }
    if group.contains_key("system_id") {
        return Err(LvmDoubt::Group("belongs to a host that it names"));
    }
    if group.contains_key("lock_type") && text(group, "lock_type")? != "none" {
        return Err(LvmDoubt::Group("is shared with other machines"));
    }
    Ok(())
}

/// Returns a name as LVM accepts it.
pub(super) fn name_of(name: &str) -> Result<String, LvmDoubt> {
    if name.len() > MOST_NAME { Err(LvmDoubt::Field("name")) } else { Ok(name.to_owned()) }
}
