//! Style and pictures. Their address changes with their content, so a browser may keep them for good.

/// An embedded file.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    stem: &'static str,
    extension: &'static str,
    /// What it is.
    pub content_type: &'static str,
    /// What it holds.
    pub bytes: &'static [u8],
}

/// The style of all pages.
pub const STYLE: Asset = Asset {
    stem: "ebb",
    extension: "css",
    content_type: "text/css; charset=utf-8",
    bytes: include_bytes!("../static/ebb.css"),
};

/// The picture in the browser's tab.
pub const ICON: Asset = Asset {
    stem: "icon",
    extension: "svg",
    content_type: "image/svg+xml",
    bytes: include_bytes!("../static/icon.svg"),
};

const ALL: [Asset; 2] = [STYLE, ICON];

impl Asset {
    /// Returns the name with the hash of the content in it.
    pub fn file_name(&self) -> String {
        format!("{}.{:016x}.{}", self.stem, fnv1a(self.bytes), self.extension)
    }
}

/// Returns the file of this name and content; a name with an older hash finds nothing.
pub fn find(file_name: &str) -> Option<Asset> {
    ALL.into_iter().find(|asset| asset.file_name() == file_name)
}

/// Tells versions of our own files apart; nobody else chooses them, so it need not withstand an attack.
const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        hash = (hash ^ (*first as u64)).wrapping_mul(0x0000_0100_0000_01b3);
        rest = tail;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_name_and_content_only() {
        assert_eq!(find(&STYLE.file_name()).unwrap().bytes, STYLE.bytes);
        assert!(find("ebb.css").is_none());
        assert!(find("ebb.0000000000000000.css").is_none());
        assert_ne!(fnv1a(b"a"), fnv1a(b"b"));
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c, "the published value");
    }

    #[test]
    fn the_style_loads_nothing_from_elsewhere() {
        let text = std::str::from_utf8(STYLE.bytes).unwrap();
        for word in ["@import", "url(", "http:", "https:"] {
            assert!(!text.contains(word), "{word}");
        }
    }
}
