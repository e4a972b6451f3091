//! ext in every shape that `mke2fs` makes, fresh, used, and full of what was deleted: our answer is that of
//! `dumpe2fs` and of `debugfs`, and the disk survives being captured and restored.

use imagezip::alloc::{Survey, Treatment};

use super::ext_round_trip::{fill_and_delete, has_stale, round_trip};
use super::tools::{Image, pairs};

/// Makes a file system of each set of options, and looks at it in three states.
fn matrix(kind: &str, block_size: u64, blocks: u64, all: &[&[&str]]) {
    for options in all {
        let what = format!("{kind} {block_size} {options:?}");
        let image = Image::fresh(kind, block_size, blocks, options);
        assert_free(&image.assert_exact(&what), &what);
        image.use_it();
        let survey = image.assert_exact(&what);
        image.assert_borders(&pairs(&survey.allocated), &what);
        fill_and_delete(&image);
        assert!(has_stale(&image), "{what}: the test needs stale bytes to miss");
        image.assert_exact(&what);
        round_trip(&image, &what);
    }
}

/// A proof that leaves out nearly nothing is none: most of a small file system with small files is free.
fn assert_free(survey: &Survey, what: &str) {
    let [partition] = survey.partitions.as_slice() else { panic!("{what}") };
    assert!(matches!(partition.treatment, Treatment::Proven { .. }), "{what}");
    assert!(partition.allocated.get() < partition.range.len.get() * 2 / 3, "{what}: {}", partition.allocated);
}

#[test]
fn clusters() {
    matrix(
        "ext4",
        1024,
        12_000,
        &[
            &["-O", "bigalloc", "-C", "2048"],
            &["-O", "bigalloc", "-C", "4096", "-g", "2048"],
            &["-O", "bigalloc,^metadata_csum,uninit_bg", "-C", "4096", "-g", "2048"],
            &["-O", "bigalloc,^metadata_csum,^64bit", "-C", "8192"],
            &["-O", "bigalloc,^flex_bg,^resize_inode", "-C", "4096", "-g", "2048"],
        ],
    );
}

#[test]
fn clusters_of_larger_blocks() {
    matrix("ext4", 4096, 3500, &[&["-O", "bigalloc,^has_journal", "-C", "16384", "-g", "1024"]]);
    matrix("ext4", 4096, 3500, &[&["-O", "bigalloc,inline_data,^has_journal", "-C", "65536"]]);
    matrix("ext4", 16_384, 1200, &[&["-O", "bigalloc,^has_journal", "-C", "65536"]]);
    matrix("ext4", 65_536, 500, &[&["-O", "bigalloc,^has_journal", "-C", "131072", "-N", "200"]]);
}

#[test]
fn descriptors_in_meta_groups() {
    // Groups of 512 KiB: 24 of them, with 16 (or 32) descriptors in a block.
    matrix(
        "ext4",
        1024,
        12_000,
        &[
            &["-O", "meta_bg,^resize_inode", "-g", "512", "-N", "2000"],
            &["-O", "meta_bg,^resize_inode,^64bit,^flex_bg", "-g", "512", "-N", "2000"],
            &["-O", "meta_bg,^resize_inode,sparse_super2", "-g", "512", "-N", "2000"],
            &["-O", "meta_bg,^resize_inode,^sparse_super,^metadata_csum,uninit_bg", "-g", "512", "-N", "2000"],
            &["-O", "meta_bg,^resize_inode,bigalloc", "-C", "2048", "-g", "512", "-N", "2000"],
        ],
    );
    matrix("ext3", 1024, 12_000, &[&["-O", "meta_bg,^resize_inode", "-g", "512", "-N", "2000"]]);
}

#[test]
fn listed_copies() {
    matrix(
        "ext4",
        1024,
        12_000,
        &[
            &["-O", "sparse_super2", "-g", "512", "-N", "2000"],
            &["-O", "sparse_super2,^resize_inode", "-E", "num_backup_sb=0", "-g", "512", "-N", "2000"],
            &["-O", "sparse_super2,^resize_inode", "-E", "num_backup_sb=1", "-g", "512", "-N", "2000"],
            &[
                "-O",
                "sparse_super2,^sparse_super,^flex_bg,^resize_inode",
                "-E",
                "num_backup_sb=2",
                "-g",
                "512",
                "-N",
                "2000",
            ],
            &["-O", "^sparse_super,^resize_inode", "-g", "512", "-N", "2000"],
        ],
    );
}

#[test]
fn long_descriptors() {
    matrix(
        "ext4",
        1024,
        12_000,
        &[
            &["-E", "desc_size=128", "-g", "512", "-N", "2000"],
            &["-E", "desc_size=1024", "-O", "^resize_inode,^metadata_csum,uninit_bg", "-g", "512", "-N", "2000"],
            &["-E", "desc_size=1024", "-O", "meta_bg,^resize_inode", "-g", "512", "-N", "2000"],
        ],
    );
}

#[test]
fn where_flex_groups_put_things() {
    matrix(
        "ext4",
        1024,
        12_000,
        &[
            &["-G", "2", "-g", "512", "-N", "2000"],
            &["-G", "64", "-g", "512", "-N", "2000"],
            &["-E", "packed_meta_blocks=1", "-g", "512", "-N", "2000"],
            &["-E", "stride=16,stripe_width=64", "-g", "2048", "-N", "160"],
            &["-O", "^flex_bg", "-E", "stride=7", "-g", "2048", "-N", "8000"],
        ],
    );
}

#[test]
fn blocks_larger_than_a_page() {
    for (block_size, blocks) in [(8192, 1800), (16_384, 1000), (32_768, 700), (65_536, 400)] {
        matrix("ext4", block_size, blocks, &[&["-O", "^has_journal", "-g", "256", "-N", "400"]]);
    }
    matrix("ext2", 65_536, 400, &[&["-N", "400"]]);
}

#[test]
fn old_ones() {
    matrix("ext2", 1024, 12_000, &[&["-r", "0"], &["-r", "0", "-g", "512", "-N", "2000"]]);
    matrix("ext2", 2048, 6000, &[&["-O", "none", "-g", "512", "-N", "2000"]]);
    matrix("ext3", 4096, 4000, &[&["-I", "128", "-J", "size=4", "-g", "1024"]]);
}

#[test]
fn what_is_inside_files_does_not_matter() {
    matrix(
        "ext4",
        2048,
        7000,
        &[
            &["-O", "inline_data,ea_inode,large_dir,metadata_csum_seed,verity,stable_inodes", "-N", "2000"],
            &["-O", "orphan_file,fast_commit,project,quota,encrypt", "-J", "size=4", "-N", "2000"],
            &["-E", "lazy_itable_init=1,lazy_journal_init=1", "-N", "4000", "-g", "1024"],
        ],
    );
}
