//! What a partition table says a partition is for.
//!
//! The name goes into reports. The purpose decides whether the content may be believed: in a partition that is
//! declared to belong to a volume manager or another system, an ext superblock is likely a leftover. The same holds
//! for a type that is not known: its owner may write where the leftover has free space and leave the superblock, the
//! descriptors and the bitmaps alone, which no proof could see. Such a partition is whole; it costs size, and
//! whoever gives the partition its right type gets it back.

mod gpt;
mod mbr;

/// What a partition is declared to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) name: String,
    pub(crate) purpose: Purpose,
}

/// Who may own a partition of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// File systems, swap and volumes of Linux, or file systems and plain data of any system.
    Linux,
    /// The root or `/usr` of Linux, which a partition of hashes may cover.
    System,
    /// Hashes of every block of a partition of the purpose [`Purpose::System`], of its free blocks too.
    Verity,
    /// A file system whose free blocks are covered by hashes.
    Hashed,
    /// Swap and nothing else.
    Swap,
    /// The FAT of the firmware and nothing else.
    Efi,
    /// A volume of LVM2 and nothing else.
    Lvm,
    /// What Linux may have, but no further volumes inside.
    Volume,
    /// Something else, or not known.
    Other,
}

impl Kind {
    /// Returns the kind of a disk without a table.
    pub(crate) fn disk() -> Self {
        Self { name: "disk".to_owned(), purpose: Purpose::Linux }
    }

    /// Returns the kind of a logical volume.
    pub(crate) fn logical(name: &str) -> Self {
        Self { name: name.to_owned(), purpose: Purpose::Volume }
    }

    /// Returns the kind for the type byte of a DOS table.
    pub(crate) fn of_mbr(kind: u8) -> Self {
        let known = mbr::KINDS.iter().find(|(number, ..)| *number == kind);
        let (name, purpose) =
            known.map_or_else(|| (format!("0x{kind:02x}"), Purpose::Other), |(_, name, p)| ((*name).to_owned(), *p));
        Self { name, purpose }
    }

    /// Returns the kind for the type of a GPT entry, as it stands on the disk.
    pub(crate) fn of_gpt(guid: [u8; 16]) -> Self {
        let text = guid_text(guid);
        let known = gpt::KINDS.iter().find(|(guid, ..)| *guid == text);
        match known {
            Some((_, name, purpose)) => Self { name: (*name).to_owned(), purpose: *purpose },
            None => Self { name: text, purpose: Purpose::Other },
        }
    }
}

/// Spells a GUID as people do: the first three fields are little-endian numbers.
fn guid_text(guid: [u8; 16]) -> String {
    let [a, b, c, d, e, f, g, h, rest @ ..] = guid;
    let mut text = format!("{d:02x}{c:02x}{b:02x}{a:02x}-{f:02x}{e:02x}-{h:02x}{g:02x}-");
    let [i, j, node @ ..] = rest;
    text.push_str(&hex::encode([i, j]));
    text.push('-');
    text.push_str(&hex::encode(node));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_type_is_listed_twice() {
        let mut guids: Vec<_> = gpt::KINDS.iter().map(|(guid, ..)| guid).collect();
        let mut bytes: Vec<_> = mbr::KINDS.iter().map(|(byte, ..)| byte).collect();
        let (gpt, mbr) = (guids.len(), bytes.len());
        guids.sort();
        guids.dedup();
        bytes.sort();
        bytes.dedup();
        assert_eq!((guids.len(), bytes.len()), (gpt, mbr));
        assert!(guids.iter().all(|guid| guid.len() == 36 && **guid == guid.to_lowercase()));
    }

    #[test]
    fn kinds_have_the_names_people_know() {
        let linux = [0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4];
        assert_eq!(Kind::of_gpt(linux), Kind { name: "linux".to_owned(), purpose: Purpose::Linux });
        assert_eq!(Kind::of_gpt([1; 16]).name, "01010101-0101-0101-0101-010101010101");
        assert_eq!(Kind::of_mbr(0x83).name, "linux");
        assert_eq!(Kind::of_mbr(0x8e).purpose, Purpose::Lvm);
        assert_eq!(Kind::of_mbr(0x9f), Kind { name: "0x9f".to_owned(), purpose: Purpose::Other });
    }
}
