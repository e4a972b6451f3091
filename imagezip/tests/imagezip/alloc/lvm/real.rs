//! Groups made by the tools of LVM on loop devices, there and back, judged by these tools and by those of ext4.
//!
//! There may be no device mapper, so no volume is ever activated: its content is written where its extents lie.

use std::fs;
use std::path::{Path, PathBuf};

use imagezip::alloc::{Content, Treatment};

use super::super::tools::{Image, run, survey_file};
use super::volumes;
use crate::command::ok;
use crate::mounted::Loop;

const MIB: usize = 1 << 20;

/// Runs the tools of LVM on one device and nothing else.
fn lvm(folder: &Path, device: &Loop, command: &str, arguments: &[&str]) -> String {
    let device = device.device();
    let config = format!(
        "devices{{filter=[\"a|^{device}$|\",\"r|.*|\"] use_devicesfile=0 obtain_device_list_from_udev=0 hints=\"none\"}} \
         global{{use_lvmpolld=0 event_activation=0 locking_dir=\"{0}\"}} \
         activation{{udev_sync=0 udev_rules=0 monitoring=0}} backup{{backup=0 archive=0}}",
        folder.display()
    );
    let system = format!("LVM_SYSTEM_DIR={}", folder.display());
    let fixed = [&system, "LVM_SUPPRESS_FD_WARNINGS=1", command, "--driverloaded", "n", "--config", &config];
    run("env", &[&fixed[..], arguments].concat())
}

/// Makes a disk of 64 MiB with a group on it: `root` in two pieces, `swap` between them, free extents behind.
fn disk(folder: &Path, areas: &str) -> Option<PathBuf> {
    let path = folder.join("disk.img");
    fs::write(&path, vec![0xC3; 64 * MIB]).unwrap();
    let device = Loop::new(&path, "512")?;
    lvm(folder, &device, "pvcreate", &["-y", "-ff", "-Zy", "--pvmetadatacopies", areas, device.device()]);
    lvm(folder, &device, "vgcreate", &["-s", "1M", "vg", device.device()]);
    for (name, size) in [("root", "20M"), ("swap", "8M"), ("noise", "3M")] {
        lvm(folder, &device, "lvcreate", &["--activate", "n", "-Zn", "-Wn", "-n", name, "-L", size, "vg"]);
    }
    lvm(folder, &device, "lvextend", &["-L", "+4M", "vg/root"]);
    lvm(folder, &device, "lvremove", &["-y", "vg/noise"]);
    Some(path)
}

#[test]
fn a_group_comes_back_and_its_tools_and_file_systems_are_content() {
    for areas in ["1", "2"] {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let Some(path) = disk(at, areas) else { return };
        // Extents of 1 MiB from 1 MiB: root has 0..20 and 31..35, swap 20..28.
        let image = Image::new("ext4", 1024, 24_000 - 10, &[]);
        let mut bytes = fs::read(&path).unwrap();
        let root = image.bytes();
        let (first, second) = root.split_at(20 * MIB);
        bytes[MIB..21 * MIB].copy_from_slice(first);
        bytes[32 * MIB..32 * MIB + second.len()].copy_from_slice(second);
        bytes[21 * MIB..21 * MIB + 4096].fill(0);
        bytes[21 * MIB + 1024] = 1;
        bytes[21 * MIB + 1028..21 * MIB + 1030].copy_from_slice(&2047_u16.to_le_bytes());
        bytes[21 * MIB + 4086..21 * MIB + 4096].copy_from_slice(b"SWAPSPACE2");
        fs::write(&path, &bytes).unwrap();

        let survey = survey_file(&path);
        let found: Vec<_> = volumes(&survey).iter().map(|volume| (volume.name.as_str(), volume.content)).collect();
        assert_eq!(found, [("vg/root", Content::Ext4), ("vg/swap", Content::Swap)]);
        assert!(volumes(&survey).iter().all(|volume| matches!(volume.treatment, Treatment::Proven { .. })));
        let text = String::from_utf8(crate::command::imagezip(at, &["map", "disk.img"]).stdout).unwrap();
        assert!(text.contains("  volume vg/root: ext4, "), "{text}");

        ok(at, &["create", "disk.img", "--out", "disk.zdi"]);
        let text = String::from_utf8(crate::command::imagezip(at, &["info", "disk.zdi"]).stdout).unwrap();
        assert!(text.contains("  volume vg/swap: swap, 4.0 KiB of 8.0 MiB allocated"), "{text}");
        fs::write(at.join("new.img"), vec![0x77; 64 * MIB]).unwrap();
        ok(at, &["restore", "disk.zdi", "--to", "new.img"]);
        let Some(device) = Loop::new(&at.join("new.img"), "512") else { return };
        lvm(at, &device, "pvck", &[device.device()]);
        lvm(at, &device, "vgck", &["vg"]);
        let names = lvm(at, &device, "lvs", &["--noheadings", "-o", "name,size", "--units", "m", "vg"]);
        assert!(names.contains("root 24.00m") && names.contains("swap  8.00m"), "{names}");
        drop(device);

        let new = fs::read(at.join("new.img")).unwrap();
        let again = [&new[MIB..21 * MIB], &new[32 * MIB..32 * MIB + second.len()]].concat();
        fs::write(at.join("root.img"), &again).unwrap();
        run("e2fsck", &["-f", "-n", &at.join("root.img").display().to_string()]);
        let dump = |path: &Path, to: &str| {
            let to = at.join(to);
            fs::create_dir(&to).unwrap();
            run("debugfs", &["-R", &format!("rdump / {}", to.display()), &path.display().to_string()]);
            to.display().to_string()
        };
        let [old, new] = [dump(&image.path(), "old"), dump(&at.join("root.img"), "new")];
        run("diff", &["-r", &old, &new]);
        assert!(again.windows(64).all(|window| window != [0xC3; 64]), "what was there before the group");
    }
}

#[test]
fn a_group_in_a_partition_of_a_device_with_sectors_of_4096_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (table, kind) in [("dos", "8e"), ("gpt", "E6D6D379-F507-44C2-A23C-238F2A3DF928")] {
        let Some(group) = disk(at, "1") else { return };
        let mut bytes = vec![0; 80 * MIB];
        bytes[4 * MIB..68 * MIB].copy_from_slice(&fs::read(&group).unwrap());
        fs::write(at.join("big.img"), &bytes).unwrap();
        let Some(source) = Loop::new(&at.join("big.img"), "4096") else { return };
        // sfdisk asks the device for its sectors.
        let script = format!(
            "printf 'label: {table}\\nstart=1024,size=16384,type={kind}\\n' | sfdisk -q -w never --no-reread --no-tell-kernel {}",
            source.device()
        );
        run("sh", &["-c", &script]);
        let map = ok(at, &["map", source.device()]);
        assert_eq!(map["sector_size"], 4096);
        assert_eq!(map["partitions"][0]["kind"], "linux-lvm");
        assert_eq!(map["partitions"][0]["content"], "lvm2");
        assert_eq!(map["partitions"][0]["range"]["start"], 4 * MIB);
        assert!(map["partitions"][0]["treatment"]["proven"].is_object(), "{map}");
        let _ = fs::remove_file(at.join("big.zdi"));
        ok(at, &["create", source.device(), "--out", "big.zdi"]);
        fs::write(at.join("new.img"), vec![0x77; 80 * MIB]).unwrap();
        let Some(target) = Loop::new(&at.join("new.img"), "4096") else { return };
        ok(at, &["restore", "big.zdi", "--to", target.device(), "--free", "zero"]);
        ok(at, &["verify", "big.zdi", "--against", target.device()]);
        assert_eq!(ok(at, &["map", target.device()])["partitions"], map["partitions"]);
    }
}
