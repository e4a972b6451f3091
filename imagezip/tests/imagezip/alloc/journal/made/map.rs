//! Maps of the journal's blocks that lie, with a superblock that agrees with them.

use super::PLAIN;
use super::states::{BLOCK, States, mark_in_use};
use crate::alloc::tools::{Image, reason, survey_of};

/// Where the superblock has a copy of the map of the journal, and where the map is in an inode.
const COPY_AT: usize = 1024 + 0x10C;
const MAP_AT: usize = 40;
const MAP_BYTES: usize = 60;

/// A disk with a log, and where the map of its journal is.
struct Mapped {
    disk: Vec<u8>,
    map: usize,
}

impl Mapped {
    /// Finds the map by its copy; there are no checksums in the way.
    fn new(disk: Vec<u8>) -> Self {
        let copy = disk[COPY_AT..COPY_AT + MAP_BYTES].to_vec();
        let map = (2048..disk.len()).step_by(4).find(|at| disk[*at..].starts_with(&copy)).unwrap();
        assert!(map % 128 == MAP_AT);
        Self { disk, map }
    }

    /// Changes the map and its copy.
    fn change(&mut self, at: usize, bytes: &[u8]) {
        for map in [self.map, COPY_AT] {
            self.disk[map + at..map + at + bytes.len()].copy_from_slice(bytes);
        }
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.disk[self.map + at..][..4].try_into().unwrap())
    }

    fn block(&mut self, block: u32) -> &mut [u8] {
        let start = usize::try_from(block).unwrap() * BLOCK;
        &mut self.disk[start..start + BLOCK]
    }

    fn assert_refused(&self, says: &str, what: &str) {
        let survey = survey_of(&self.disk);
        let reason = reason(&survey);
        assert!(reason.contains(says), "{what}: {reason}");
    }
}

/// The head of a node and its entries, from six numbers of 16 bits each.
fn node(depth: u16, entries: &[[u16; 6]]) -> Vec<u8> {
    let count = u16::try_from(entries.len()).unwrap();
    let head = [0xF30A, count, count.max(4), depth, 0, 0];
    std::iter::once(&head).chain(entries).flatten().flat_map(|number| number.to_le_bytes()).collect()
}

fn extent(first: u16, len: u16, home: u16) -> [u16; 6] {
    [first, 0, len, 0, home, 0]
}

fn index(first: u16, node: u16) -> [u16; 6] {
    [first, 0, node, 0, 0, 0]
}

#[test]
fn trees() {
    let states = States::new(&["-J", "size=1", "-O", "^metadata_csum"]);
    let mut log = states.log(5, 70, PLAIN);
    log.transaction(&states.changes(1));
    let mapped = || Mapped::new(log.disk.clone());
    let journal = u16::try_from(states.journal).unwrap();
    let free = u16::try_from(states.free(1)[0]).unwrap();
    let roots: &[(&str, Vec<u8>, Vec<u8>, &str)] = &[
        ("itself", node(1, &[index(0, free)]), node(1, &[index(0, free)]), "inode 8"),
        ("deep", node(5, &[index(0, free)]), node(5, &[index(0, free)]), "inode 8"),
        ("too deep", node(6, &[index(0, free)]), node(5, &[index(0, free)]), "inode 8"),
        ("outside", node(1, &[index(0, u16::MAX)]), Vec::new(), "inode 8"),
        ("block 0", node(0, &[extent(0, 1024, 0)]), Vec::new(), "inode 8"),
        ("extent outside", node(0, &[extent(0, 1024, 8000)]), Vec::new(), "inode 8"),
        ("nothing", node(0, &[]), Vec::new(), "hole at its end"),
        ("empty extent", node(0, &[extent(0, 0, journal)]), Vec::new(), "inode 8"),
        ("short", node(0, &[extent(0, 1023, journal)]), Vec::new(), "hole at its end"),
        ("late", node(0, &[extent(1, 1023, journal)]), Vec::new(), "has a hole"),
        ("unwritten", node(0, &[extent(0, 0x8000 + 1024, journal)]), Vec::new(), "never written"),
        ("twice", node(0, &[extent(0, 512, journal), extent(512, 512, journal + 511)]), Vec::new(), "twice"),
        ("disorder", node(0, &[extent(512, 512, journal), extent(0, 512, journal + 512)]), Vec::new(), "inode 8"),
        ("two leaves", node(1, &[index(0, free), index(0, free)]), node(0, &[extent(0, 1024, journal)]), "inode 8"),
    ];
    for (what, root, below, says) in roots {
        let mut mapped = mapped();
        mapped.change(0, root);
        mapped.block(u32::from(free))[..below.len()].copy_from_slice(below);
        mapped.assert_refused(says, what);
    }
    // The same with a node that is right is believed, unless the log writes to it: it would change what is read next.
    let (root, leaf) = (node(1, &[index(0, free)]), node(0, &[extent(0, 1024, journal)]));
    let with_leaf = |disk: &[u8]| {
        let mut mapped = Mapped::new(disk.to_vec());
        mapped.change(0, &root);
        mapped.block(u32::from(free))[..leaf.len()].copy_from_slice(&leaf);
        mapped
    };
    let expected = states.changes(1).len();
    let found = super::super::judge::log(&survey_of(&with_leaf(&log.disk).disk));
    assert_eq!(found.blocks, u64::try_from(expected).unwrap());
    log.transaction(&[(u64::from(free), vec![0; BLOCK])]);
    with_leaf(&log.disk).assert_refused("the log changes", "a log over its own map");
}

#[test]
fn pointers() {
    let image = Image::fresh("ext3", 1024, 16_384, &["-J", "size=1"]);
    let mut disk = image.bytes();
    mark_in_use(&mut disk);
    let mapped = Mapped::new(disk);
    // Blocks 0 to 11 have pointers of their own, and 12 the block of the next 256.
    let superblock = mapped.number(0);
    let mut mapped = mapped;
    let journal = mapped.block(superblock);
    for (at, value) in [(24, 70_u32), (28, 3)] {
        journal[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    let (single, double) = (mapped.number(48), mapped.number(52));
    let fresh = || Mapped { disk: mapped.disk.clone(), map: mapped.map };
    let found = super::super::judge::log(&survey_of(&mapped.disk));
    assert_eq!((found.transactions, found.blocks), (0, 0));

    let lies: &[(&str, usize, u32, &str)] = &[
        ("none", 0, 0, "has a hole"),
        ("hole", 4, 0, "has a hole"),
        ("twice", 8, superblock, "twice"),
        ("outside", 8, 1 << 20, "inode 8"),
        ("no single", 48, 0, "has a hole"),
        ("outside single", 48, u32::MAX, "inode 8"),
        ("double is single", 52, single, ""),
        ("single is double", 48, double, ""),
    ];
    for (what, at, value, says) in lies {
        let mut mapped = fresh();
        mapped.change(*at, &value.to_le_bytes());
        mapped.assert_refused(says, what);
    }
    let mut itself = fresh();
    let pointers = double.to_le_bytes().repeat(BLOCK / 4);
    itself.block(double).copy_from_slice(&pointers);
    itself.assert_refused("twice", "a block of pointers to itself");
}
