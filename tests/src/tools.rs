//! Programs that are not ours: where they are, how they are run, and how missing ones are installed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, bail};

const SEARCH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Programs are missing and cannot be installed: set-up, for a person.
#[derive(Debug)]
pub struct Missing(String);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// A program and the Debian package it comes in.
const NEEDED: [(&str, &str); 9] = [
    ("mke2fs", "e2fsprogs"),
    ("debugfs", "e2fsprogs"),
    ("dumpe2fs", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("mount", "mount"),
    ("partx", "util-linux"),
    ("find", "findutils"),
    ("cmp", "diffutils"),
    ("sha256sum", "coreutils"),
];

/// What only tests need: file systems, partition tables and formats made by programs that are not ours.
pub const TESTED_WITH: [(&str, &str); 17] = [
    ("strace", "strace"),
    ("sfdisk", "fdisk"),
    ("sgdisk", "gdisk"),
    ("script", "bsdutils"),
    ("mkfs.xfs", "xfsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("mkfs.fat", "dosfstools"),
    ("mcopy", "mtools"),
    ("mkfs.ntfs", "ntfs-3g"),
    ("mkfs.exfat", "exfatprogs"),
    ("mount.exfat-fuse", "exfat-fuse"),
    ("mkfs.f2fs", "f2fs-tools"),
    ("partclone.fat", "partclone"),
    ("pvcreate", "lvm2"),
    ("cryptsetup", "cryptsetup-bin"),
    ("qemu-img", "qemu-utils"),
    ("nbdinfo", "libnbd-bin"),
];

/// Returns where a program is; the folders of administrators' programs are searched too.
pub fn find(name: &str) -> Option<PathBuf> {
    SEARCH.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

/// Prepares a program that is not ours: found where Debian has it, speaking English.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(find(name).unwrap_or_else(|| name.into()));
    command.env("LC_ALL", "C").env("TZ", "UTC").stdin(Stdio::null());
    command
}

/// Runs a command and returns what it printed.
///
/// # Errors
/// When it cannot be started or does not succeed; what it said is part of the error.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let Output { status, stdout, stderr } =
        command.output().with_context(|| format!("start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{} ended with {status}: {}", shown(command), String::from_utf8_lossy(&stderr).trim());
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Runs a command for its effect.
///
/// # Errors
/// As [`output`].
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    output(command).map(drop)
}

/// Returns a command as a person would type it.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Returns whether we are root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What is missing on this machine, as Debian packages: for everything, and for what is in `more`.
pub fn missing_packages(more: &[(&'static str, &'static str)]) -> Vec<&'static str> {
    let mut packages: Vec<_> =
        NEEDED.iter().chain(more).filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect();
    if crate::pg::programs().is_none() {
        packages.push("postgresql");
    }
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Installs what is missing, for everything and for what is in `more`, where that is allowed.
///
/// # Errors
/// [`Missing`] when it is not allowed, or does not work: the text is the line for a person to run.
pub fn install_missing(more: &[(&'static str, &'static str)]) -> anyhow::Result<()> {
    let packages = missing_packages(more);
    if packages.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get update && apt-get install -y --no-install-recommends {}", packages.join(" "));
    let by_hand = || Missing(format!("missing Debian packages; run this as root and try again:\n    {line}"));
    let prefix: &[&str] = if is_root() {
        &[]
    } else if find("sudo").is_some_and(|sudo| {
        Command::new(sudo).args(["-n", "true"]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }) {
        &["sudo", "-n"]
    } else {
        return Err(by_hand().into());
    };
    if find("apt-get").is_none() {
        return Err(by_hand().into());
    }
    crate::talk::say(format!("installing: {}", packages.join(" ")));
    for arguments in [vec!["update"], [&["install", "-y", "--no-install-recommends"], &packages[..]].concat()] {
        let words = [prefix, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"], &arguments].concat();
        let mut command = program(words[0]);
        if let Err(error) = run(command.args(&words[1..])) {
            crate::talk::say(format!("{error:#}"));
            return Err(by_hand().into());
        }
    }
    match missing_packages(more).as_slice() {
        [] => Ok(()),
        still => Err(Missing(format!("still missing after installing: {}", still.join(" "))).into()),
    }
}
