//! XFS: against what `xfs_db` says, against `xfs_repair`, and against the kernel.

mod crashed;
mod damaged;
mod hostile;
mod log;
mod mounted;
mod volume;

use std::fs;
use std::path::Path;

use imagezip::alloc::{Content, Evidence};
use volume::{MIB, Volume};

use super::tools::{pairs, reason};

#[test]
fn what_mkfs_makes() {
    let matrix: &[(u64, &[&str])] = &[
        (64, &[]),
        (64, &["-b", "size=1024"]),
        (64, &["-b", "size=16384"]),
        (256, &["-b", "size=65536"]),
        (64, &["-s", "size=4096"]),
        (64, &["-m", "reflink=0,finobt=0,inobtcount=0"]),
        (64, &["-m", "rmapbt=1"]),
        (64, &["-m", "bigtime=0", "-i", "sparse=0,nrext64=1"]),
        (64, &["-m", "uuid=11111111-2222-3333-4444-555555555555"]),
        (64, &["-i", "size=2048", "-n", "size=65536"]),
        (300, &["-l", "su=256k", "-d", "su=64k,sw=2"]),
        (64, &["-d", "agcount=1"]),
        (256, &["-d", "agcount=13"]),
        (256, &["-d", "size=100m"]),
        (64, &["-m", "crc=0"]),
        (64, &["-m", "crc=0", "-l", "lazy-count=0,version=1"]),
        (64, &["-m", "crc=0", "-b", "size=512"]),
        (64, &["-m", "crc=0", "-i", "attr=1,projid32bit=0", "-n", "ftype=0"]),
    ];
    for (mib, options) in matrix {
        let folder = tempfile::tempdir().unwrap();
        let proto = files(folder.path());
        let mut all = vec!["-p", proto.as_str()];
        all.extend(*options);
        let volume = Volume::new(mib * MIB + 1536, &all);
        let evidence = volume.assert_exact(&format!("{options:?}"));
        let Evidence::XfsTrees { checksums, .. } = evidence else { panic!("{evidence:?}") };
        assert_eq!(checksums, !options.contains(&"crc=0"), "{options:?}");
        assert_eq!(volume.survey().partitions[0].content, Content::Xfs);
    }
}

/// Writes files and returns a description of a file system that has them, for `mkfs.xfs`.
fn files(folder: &Path) -> String {
    let mut text = "/dev/null\n0 0\nd--755 0 0\n".to_owned();
    for number in 0..60_usize {
        let file = folder.join(format!("file{number}"));
        fs::write(&file, vec![b'x'; number * 1777]).unwrap();
        text.push_str(&format!("file{number} ---644 0 0 {}\n", file.display()));
    }
    text.push_str("$\n");
    let proto = folder.join("proto");
    fs::write(&proto, text).unwrap();
    proto.display().to_string()
}

#[test]
fn what_is_not_handled_is_named() {
    let volume = Volume::new(64 * MIB, &[]);
    let log = tempfile::NamedTempFile::new().unwrap();
    log.as_file().set_len(64 * MIB).unwrap();
    let option = format!("logdev={},size=32m", log.path().display());
    volume::make(&volume.path(), &["-l", &option]);
    assert!(reason(&volume.survey()).starts_with("the log is on another device"));

    let volume = Volume::new(64 * MIB, &[]);
    fs::OpenOptions::new().write(true).open(volume.path()).unwrap().set_len(64 * MIB - 4096).unwrap();
    assert_eq!(reason(&volume.survey()), "the file system is larger than its partition");
    assert_eq!(pairs(volume.survey().allocated.iter()), [(0, 64 * MIB - 4096)]);
}
