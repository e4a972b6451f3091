//! ext2, ext3 and ext4 as Debian makes them.

use std::fs;
use std::os::unix::fs::FileExt;

use imagezip::alloc::filesystem::Checksums;
use imagezip::alloc::{Content, Evidence, Survey, Treatment};

use super::tools::{Image, complement, covers, numbers, pairs, reason, run, run_any};

/// Block sizes with a number of blocks that makes 9 groups, the last one short.
const SIZES: [(u64, u64); 3] = [(1024, 8192 * 8 + 3000), (2048, 16384 * 8 + 3000), (4096, 32768 * 8 + 3000)];

fn evidence(survey: &Survey) -> (Content, Checksums, u64) {
    let partition = &survey.partitions[0];
    match &partition.treatment {
        Treatment::Proven { evidence: Evidence::ExtBitmaps { checksums, uninit_groups, .. } } => {
            (partition.content, *checksums, *uninit_groups)
        }
        other => panic!("{other:?}"),
    }
}

fn matrix(kind: &str, content: Content, checksums: Checksums, options: &[&[&str]]) {
    for (block_size, blocks) in SIZES {
        for options in options {
            let what = format!("{kind} {block_size} {options:?}");
            let survey = Image::new(kind, block_size, blocks, options).assert_exact(&what);
            let found = evidence(&survey);
            assert_eq!((found.0, found.1), (content, checksums), "{what}");
        }
    }
}

#[test]
fn ext2_and_ext3() {
    matrix(
        "ext2",
        Content::Ext2,
        Checksums::None,
        &[&[], &["-O", "^resize_inode"], &["-O", "^sparse_super,^resize_inode"]],
    );
    matrix("ext3", Content::Ext3, Checksums::None, &[&[], &["-I", "128", "-J", "size=4"]]);
}

#[test]
fn ext2_of_the_first_revision_has_no_flags() {
    let image = Image::fresh("ext2", 1024, 20_000, &["-r", "0"]);
    image.assert_exact("revision 0");
}

#[test]
fn ext4_as_mke2fs_makes_it() {
    matrix("ext4", Content::Ext4, Checksums::All, &[&[], &["-O", "^64bit"]]);
}

#[test]
fn ext4_without_flex_bg_or_with_other_ones() {
    let options: &[&[&str]] =
        &[&["-O", "^flex_bg"], &["-G", "4"], &["-E", "packed_meta_blocks=1"], &["-O", "^sparse_super,^resize_inode"]];
    matrix("ext4", Content::Ext4, Checksums::All, options);
}

#[test]
fn ext4_with_features_that_do_not_matter() {
    let options: &[&[&str]] = &[
        &["-O", "metadata_csum_seed,inline_data,casefold,encrypt,ea_inode,large_dir,verity,stable_inodes"],
        &["-O", "quota,project,^has_journal"],
        &["-O", "orphan_file,fast_commit,^resize_inode"],
    ];
    matrix("ext4", Content::Ext4, Checksums::All, options);
}

#[test]
fn ext4_with_multiple_mount_protection() {
    // Whoever opens it for writing waits for seconds, so nothing does.
    for (block_size, blocks) in SIZES {
        Image::fresh("ext4", block_size, blocks, &["-O", "mmp"]).assert_exact(&format!("mmp {block_size}"));
    }
}

#[test]
fn ext4_with_uninit_bg() {
    let options: &[&[&str]] =
        &[&["-O", "^metadata_csum,uninit_bg"], &["-O", "^metadata_csum,uninit_bg,^64bit,^flex_bg"]];
    matrix("ext4", Content::Ext4, Checksums::Descriptors, options);
}

#[test]
fn ext4_without_checksums() {
    matrix("ext4", Content::Ext4, Checksums::None, &[&["-O", "^metadata_csum"], &["-O", "^metadata_csum,^64bit"]]);
}

#[test]
fn unusual_geometry() {
    let all: &[(u64, u64, &[&str])] = &[
        (1024, 60_000, &["-g", "1024"]),
        (4096, 60_000, &["-g", "4096", "-N", "70000"]),
        (8192, 70_000, &[]),
        (65536, 20_000, &["-N", "1000"]),
        (4096, 2000, &[]),
        (1024, 8193, &[]),
        (1024, 16_385, &[]),
    ];
    for (block_size, blocks, options) in all {
        for kind in ["ext2", "ext4"] {
            let what = format!("{kind} {block_size} {blocks} {options:?}");
            Image::fresh(kind, *block_size, *blocks, options).assert_exact(&what);
        }
    }
}

#[test]
fn a_file_system_that_was_resized() {
    for (kind, options) in [("ext2", [].as_slice()), ("ext4", &[]), ("ext4", &["-O", "^metadata_csum,uninit_bg"])] {
        for (from, to) in [(30_000_u64, 90_000), (90_000, 30_000)] {
            let image = Image::new(kind, 1024, from, options);
            fs::OpenOptions::new().write(true).open(image.path()).unwrap().set_len(100_000 * 1024).unwrap();
            run("e2fsck", &["-f", "-y", &image.text()]);
            run("resize2fs", &[&image.text(), &to.to_string()]);
            image.assert_exact(&format!("{kind} {options:?} from {from} to {to}"));
        }
    }
}

/// The copies of superblock and descriptors in groups without a bitmap, which the model of this program lost.
#[test]
fn copies_in_uninitialised_groups_are_allocated() {
    for (block_size, blocks) in SIZES {
        for options in [["-O", "metadata_csum"], ["-O", "^metadata_csum,uninit_bg"]] {
            let image = Image::new("ext4", block_size, blocks, &options);
            let survey = image.assert_exact("uninit");
            assert!(evidence(&survey).2 > 2, "{survey:?}");
            let allocated = pairs(&survey.allocated);
            let mut copies = 0;
            let mut in_uninit_group = false;
            for line in run("dumpe2fs", &[&image.text()]).lines() {
                if line.starts_with("Group ") {
                    in_uninit_group = line.contains("BLOCK_UNINIT");
                }
                // "  Backup superblock at 24577, Group descriptors at 24578-24578" and "  Reserved GDT blocks at 3-258"
                let places: Vec<&str> =
                    line.split(',').filter_map(|part| part.split_once(" at ")).map(|p| p.1).collect();
                if !in_uninit_group || !(line.contains("superblock at") || line.contains("GDT blocks at")) {
                    continue;
                }
                for place in places {
                    let (first, last) = numbers(place);
                    assert!(covers(&allocated, &[(first * block_size, (last + 1) * block_size)]), "{line}");
                    copies += 1;
                }
            }
            assert!(copies >= 6, "{copies} copies of something in groups without a bitmap");
        }
    }
}

/// The outside judge: with all we call free overwritten, `e2fsck` sees nothing and every file is as it was.
#[test]
fn free_space_can_be_overwritten() {
    for (kind, block_size, blocks, options) in [
        ("ext2", 1024, 20_000, [].as_slice()),
        ("ext3", 2048, 40_000, &[]),
        ("ext4", 4096, 70_000, &[]),
        ("ext4", 1024, 70_000, &["-O", "^metadata_csum,uninit_bg"]),
    ] {
        let image = Image::new(kind, block_size, blocks, options);
        let before = image.tree();
        assert!(before.len() > 60);
        let survey = image.survey();
        let file = fs::OpenOptions::new().write(true).open(image.path()).unwrap();
        let len = file.metadata().unwrap().len();
        for (start, end) in complement(&pairs(&survey.allocated), len) {
            let junk = vec![0xA5; usize::try_from(end - start).unwrap()];
            file.write_all_at(&junk, start).unwrap();
        }
        assert_eq!(image.tree(), before, "{kind} {block_size}");
        let (status, text) = run_any("e2fsck", &["-f", "-n", &image.text()]);
        assert_eq!(status, 0, "{kind} {block_size}: {text}");
    }
}

#[test]
fn a_file_system_that_is_not_clean_is_whole() {
    for (state, says) in
        [("0", "not marked clean"), ("2", "not marked clean"), ("3", "not marked clean"), ("5", "not marked")]
    {
        let image = Image::fresh("ext4", 4096, 20_000, &[]);
        image.debugfs(&format!("set_super_value state {state}\n"));
        assert!(reason(&image.survey()).contains(says));
    }
    let image = Image::fresh("ext4", 4096, 20_000, &[]);
    image.debugfs("set_super_value error_count 3\n");
    assert_eq!(reason(&image.survey()), "the file system has recorded 3 errors, and no check has cleared them");
}

#[test]
fn features_that_are_not_handled_are_named() {
    // Blocks shared by files, a snapshot, compression, and one of the future.
    for (set, flags, says) in [
        ("ro_compat", "0x4000", "ro_compat feature flags 0x4000"),
        ("ro_compat", "0x80", "ro_compat feature flags 0x80"),
        ("incompat", "0x1", "incompat feature flags 0x1"),
        ("compat", "0x40000", "compat feature flags 0x40000"),
    ] {
        let image = Image::fresh("ext2", 1024, 9000, &[]);
        let header = run("dumpe2fs", &["-h", &image.text()]);
        assert!(header.contains("Filesystem features:"));
        image.add_flags(set, u32::from_str_radix(&flags[2..], 16).unwrap());
        let survey = image.survey();
        assert!(reason(&survey).contains(says), "{flags}: {}", reason(&survey));
    }
}

#[test]
fn a_journal_device_is_named_and_whole() {
    for size in ["1024", "4096"] {
        let image = Image::fresh("ext4", 4096, 20_000, &[]);
        run("mke2fs", &["-q", "-F", "-b", size, "-O", "journal_dev", &image.text()]);
        let survey = image.survey();
        assert_eq!(survey.partitions[0].content, Content::ExtJournal);
        assert_eq!(reason(&survey), "an ext journal is not read for what it has allocated");
    }
}

#[test]
fn wrong_counts_are_seen_where_there_are_no_checksums() {
    let image = Image::new("ext2", 1024, 20_000, &[]);
    image.debugfs("set_super_value free_blocks_count 7\n");
    assert!(reason(&image.survey()).contains("its superblock says 7"));
    let image = Image::new("ext2", 1024, 20_000, &[]);
    image.debugfs("set_block_group 1 free_blocks_count 9\n");
    assert!(reason(&image.survey()).contains("its descriptor says 9"));
}

#[test]
fn an_allocated_block_that_the_bitmap_lost_is_seen() {
    // With the counts put right as well, only the rule that metadata is allocated can notice.
    let image = Image::fresh("ext2", 1024, 20_000, &[]);
    let layout = run("dumpe2fs", &[&image.text()]);
    let table = layout.lines().find_map(|line| line.split_once("Inode table at ")).unwrap().1;
    let (first, _) = numbers(table.split_whitespace().next().unwrap());
    image.debugfs(&format!("freeb {}\n", first + 5));
    assert_eq!(reason(&image.survey()), format!("block {} holds metadata but is marked free", first + 5));
}

#[test]
fn a_truncated_file_system_is_whole() {
    let image = Image::fresh("ext4", 1024, 20_000, &[]);
    fs::OpenOptions::new().write(true).open(image.path()).unwrap().set_len(19_999 * 1024).unwrap();
    assert_eq!(reason(&image.survey()), "the file system is larger than its partition");
}

#[test]
fn a_copy_of_a_superblock_is_not_a_superblock() {
    let image = Image::fresh("ext2", 1024, 20_000, &[]);
    let bytes = image.bytes();
    // The copy of group 1 stands in block 8193: seen from 8192, it is where a superblock is.
    let disk = bytes[8192 * 1024..].to_vec();
    let survey = super::tools::survey_of(&disk);
    assert_eq!(reason(&survey), "the superblock is the copy that belongs to group 1");
}
