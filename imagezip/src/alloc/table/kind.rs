//! What a partition table says a partition is for.
//!
//! The name goes into reports. The purpose decides whether the content may be believed: in a partition that is
//! declared to belong to a volume manager or another system, an ext superblock is likely a leftover.

/// What a partition is declared to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) name: String,
    pub(crate) purpose: Purpose,
}

/// Who may own a partition of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// File systems of Linux (and swap, which people put there too), or plain data.
    Linux,
    /// Swap and nothing else.
    Swap,
    /// Something else, or not known.
    Other,
}

impl Kind {
    /// Returns the kind of a disk without a table.
    pub(crate) fn disk() -> Self {
        Self { name: "disk".to_owned(), purpose: Purpose::Linux }
    }

    /// Returns the kind for the type byte of a DOS table.
    pub(crate) fn of_mbr(kind: u8) -> Self {
        let known = MBR_KINDS.iter().find(|(number, ..)| *number == kind);
        let (name, purpose) =
            known.map_or_else(|| (format!("0x{kind:02x}"), Purpose::Other), |(_, name, p)| ((*name).to_owned(), *p));
        Self { name, purpose }
    }

    /// Returns the kind for the type of a GPT entry, as it stands on the disk.
    pub(crate) fn of_gpt(guid: [u8; 16]) -> Self {
        let text = guid_text(guid);
        let known = GPT_KINDS.iter().find(|(guid, ..)| *guid == text);
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

const MBR_KINDS: &[(u8, &str, Purpose)] = &[
    (0x01, "fat12", Purpose::Linux),
    (0x04, "fat16", Purpose::Linux),
    (0x06, "fat16", Purpose::Linux),
    (0x07, "ntfs", Purpose::Linux),
    (0x0b, "fat32", Purpose::Linux),
    (0x0c, "fat32", Purpose::Linux),
    (0x0e, "fat16", Purpose::Linux),
    (0x82, "linux-swap", Purpose::Swap),
    (0x83, "linux", Purpose::Linux),
    (0x8e, "linux-lvm", Purpose::Other),
    (0xa5, "freebsd", Purpose::Other),
    (0xa6, "openbsd", Purpose::Other),
    (0xa9, "netbsd", Purpose::Other),
    (0xef, "efi", Purpose::Other),
    (0xfb, "vmfs", Purpose::Other),
    (0xfd, "linux-raid", Purpose::Other),
];

const GPT_KINDS: &[(&str, &str, Purpose)] = &[
    ("0fc63daf-8483-4772-8e79-3d69d8477de4", "linux", Purpose::Linux),
    ("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "basic-data", Purpose::Linux),
    ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "linux-root-x86-64", Purpose::Linux),
    ("b921b045-1df0-41c3-af44-4c6f280d3fae", "linux-root-arm64", Purpose::Linux),
    ("8484680c-9521-48c6-9c11-b0720656f69e", "linux-usr-x86-64", Purpose::Linux),
    ("b0e01050-ee5f-4390-949a-9101b17104e9", "linux-usr-arm64", Purpose::Linux),
    ("bc13c2ff-59e6-4262-a352-b275fd6f7172", "linux-boot", Purpose::Linux),
    ("933ac7e1-2eb4-4f13-b844-0e14e2aef915", "linux-home", Purpose::Linux),
    ("3b8f8425-20e0-4f3b-907f-1a25a76f98e8", "linux-srv", Purpose::Linux),
    ("4d21b016-b534-45c2-a9fb-5c16e091fd2d", "linux-var", Purpose::Linux),
    ("7ec6f557-3bc5-4aca-b293-16ef5df639d1", "linux-tmp", Purpose::Linux),
    ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "linux-swap", Purpose::Swap),
    ("e6d6d379-f507-44c2-a23c-238f2a3df928", "linux-lvm", Purpose::Other),
    ("a19d880f-05fc-4d3b-a006-743f0f84911e", "linux-raid", Purpose::Other),
    ("ca7d7ccb-63ed-4c53-861c-1742536059cc", "luks", Purpose::Other),
    ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "efi", Purpose::Other),
    ("21686148-6449-6e6f-744e-656564454649", "bios-boot", Purpose::Other),
    ("516e7cb4-6ecf-11d6-8ff8-00022d09712b", "freebsd", Purpose::Other),
    ("516e7cb5-6ecf-11d6-8ff8-00022d09712b", "freebsd-swap", Purpose::Other),
    ("516e7cb6-6ecf-11d6-8ff8-00022d09712b", "freebsd-ufs", Purpose::Other),
    ("516e7cba-6ecf-11d6-8ff8-00022d09712b", "freebsd-zfs", Purpose::Other),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_names_people_know() {
        let linux = [0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4];
        assert_eq!(Kind::of_gpt(linux), Kind { name: "linux".to_owned(), purpose: Purpose::Linux });
        assert_eq!(Kind::of_gpt([1; 16]).name, "01010101-0101-0101-0101-010101010101");
        assert_eq!(Kind::of_mbr(0x83).name, "linux");
        assert_eq!(Kind::of_mbr(0x9f), Kind { name: "0x9f".to_owned(), purpose: Purpose::Other });
    }
}
