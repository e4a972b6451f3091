#!/bin/bash
# Makes the disks that are changed by the fuzz targets anew, into images/. Needs root, and the tools .ci/run installs.
# The committed ones need not be made again unless a parser begins to read something else.
set -euo pipefail
cd "$(dirname "$0")"
PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d)
mount=$work/mount
loop=
mkdir "$mount" "$work/files"
trap 'umount "$mount" 2>/dev/null || true; [ -z "$loop" ] || losetup -d "$loop" 2>/dev/null || true; rm -r "$work"' EXIT
# The program is built with the images in it.
for name in $(sed -n '/^bases! {/,/^}/p' harness/src/disk.rs | grep -o '"[^"]*"' | tr -d '"'); do
    [ -e "images/$name.zst" ] || : > "images/$name.zst"
done
pack() { (cd ../.. && cargo run -q --locked -p fuzz-harness --example pack -- "$work/$1" "imagezip/fuzz/images/$1.zst"); }
disk() { rm -f "$work/$1"; truncate -s "$2" "$work/$1"; }

# Files of several lengths whose content takes no room here.
for number in $(seq 12); do head -c $((number * 9000)) /dev/zero | tr '\0' "$number" > "$work/files/file$number"; done
mkdir -p "$work/files/folder/inside"; echo here > "$work/files/folder/inside/text"

# Changes that leave a log behind; $1 is the disk, $2 options of mount.
crash() {
    mount -o "loop,$2" "$work/$1" "$mount"
    cp -r "$work/files/." "$mount"; sync -f "$mount"
    rm "$mount/file3" "$mount/file7"; mv "$mount/file5" "$mount/folder/"; sync -f "$mount"
    for number in 1 2 3; do head -c 20000 /dev/zero | tr '\0' x > "$mount/new$number"; sync "$mount/new$number"; done
    truncate -s 5000 "$mount/file9"; sync "$mount/file9"
    cp "$work/$1" "$work/crashed"
    umount "$mount"
    mv "$work/crashed" "$work/$1"
    pack "$1"
}

ext() { disk "$1" "$2"; mke2fs -q -F -d "$work/files" -E lazy_itable_init=0,lazy_journal_init=0 "${@:3}" "$work/$1"; }
ext ext4 20M -t ext4 -b 1024 -g 8192;                               pack ext4
ext ext2 9M -t ext2 -b 1024 -g 2048;                                pack ext2
ext bigalloc 64M -t ext4 -b 4096 -O bigalloc -C 16384 -J size=4;    pack bigalloc
ext ext4-journal 10M -t ext4 -b 1024 -J size=1;                     crash ext4-journal data=ordered
ext ext3-journal 10M -t ext3 -b 1024 -J size=1;                     crash ext3-journal data=journal
ext ext4-fast-commit 10M -t ext4 -b 1024 -J size=1,fast_commit_size=256 -O fast_commit; crash ext4-fast-commit data=ordered

btrfs() { disk "$1" "$2"; mkfs.btrfs -q -f -n 4096 -r "$work/files" "${@:3}" "$work/$1"; }
btrfs btrfs 120M -m dup;                                            pack btrfs
btrfs btrfs-mixed 20M --mixed;                                      pack btrfs-mixed
btrfs btrfs-log 120M -m single;                                     crash btrfs-log commit=300

# Small ones are refused unless these say that this is a test.
export TEST_DIR=1 TEST_DEV=1 QA_CHECK_FS=1
xfs() { disk "$1" 32M; mkfs.xfs -q -f -d agcount=2 "${@:2}" "$work/$1"; }
xfs xfs;                                                            pack xfs
xfs xfs-v4 -m crc=0;                                                pack xfs-v4
xfs xfs-log;                                                        crash xfs-log nouuid

fat() { disk "$1" "$2"; mkfs.fat "${@:3}" "$work/$1" > /dev/null; mcopy -s -i "$work/$1" "$work"/files/* ::; pack "$1"; }
fat fat12 2M -F 12
fat fat16 10M -F 16 -s 1
fat fat32 40M -F 32 -s 1

disk ntfs 2M; mkfs.ntfs -q -F -Q -c 512 "$work/ntfs" > /dev/null 2>&1; pack ntfs
disk exfat 4M; mkfs.exfat -b 64K -c 512 "$work/exfat" > /dev/null; pack exfat
disk swap 1M; mkswap -q "$work/swap"; pack swap

# What belongs to no volume, two volumes, one of them in two pieces with a file system.
disk lvm 48M
loop=$(losetup -f --show "$work/lvm")
config="devices { filter = [\"a|^$loop\$|\", \"r|.*|\"] use_devicesfile = 0 obtain_device_list_from_udev = 0 hints = \"none\" }
    global { use_lvmpolld = 0 event_activation = 0 locking_dir = \"$work\" } backup { backup = 0 archive = 0 }
    activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }"
pv() { LVM_SYSTEM_DIR=$work LVM_SUPPRESS_FD_WARNINGS=1 "$1" --driverloaded n --config "$config" -q "${@:2}" > /dev/null; }
pv pvcreate "$loop"; pv vgcreate -s 1M fuzz "$loop"
pv lvcreate -an -Zn -Wn -L 8M -n one fuzz; pv lvcreate -an -Zn -Wn -L 8M -n two fuzz; pv lvextend -L 12M fuzz/one
losetup -d "$loop"
mke2fs -q -F -t ext4 -b 1024 -d "$work/files" "$work/inside" 8M
dd if="$work/inside" of="$work/lvm" bs=1M seek=9 conv=notrunc status=none
pack lvm

# Sectors of 4 KiB take a block device that says so.
gpt() {
    disk "$1" 4M
    loop=$(losetup -b "$2" -f --show "$work/$1")
    sgdisk "${@:3}" "$loop" > /dev/null; sync "$loop"
    losetup -d "$loop"
    pack "$1"
}
gpt gpt 512 -n 1:0:+1M -n 2:0:+512K -t 2:8200 -n 3:0:0 -t 3:ef00
gpt gpt-4k 4096 -a 64 -n 1:0:+1M -n 2:0:+512K -t 2:8200

# Partitions of an MBR: table in which sector, number in it, type, first sector counted from there, sectors.
entry() {
    word() { printf '\\x%02x\\x%02x\\x00\\x00' $(($1 & 255)) $(($1 >> 8 & 255)); }
    printf "\x00\x00\x00\x00\x$3\x00\x00\x00$(word "$4")$(word "$5")" |
        dd of="$work/mbr" bs=1 seek=$(($1 * 512 + 446 + ($2 - 1) * 16)) conv=notrunc status=none
    printf '\x55\xaa' | dd of="$work/mbr" bs=1 seek=$(($1 * 512 + 510)) conv=notrunc status=none
}
disk mbr 16M
entry 0 1 83 2048 4096; entry 0 2 82 6144 4096; entry 0 3 0f 10240 16384
entry 10240 1 83 2048 2048; entry 10240 2 05 4096 4096
entry 14336 1 0c 1024 2048
pack mbr

# Files of QEMU, as small as they can be.
mkdir -p seeds/qcow2
head -c 3000 /dev/zero | tr '\0' y > "$work/raw"; truncate -s 200000 "$work/raw"
qcow2() { qemu-img convert -O qcow2 "${@:2}" "$work/raw" "seeds/qcow2/good-$1"; }
qcow2 version-2 -o cluster_size=512,compat=0.10
qcow2 version-3 -o cluster_size=512
qcow2 deflate -c -o cluster_size=4096
qcow2 zstd -c -o cluster_size=4096,compression_type=zstd
qcow2 extended -o cluster_size=16384,extended_l2=on
(cd ../.. && cargo run -q --locked -p fuzz-harness --example seeds -- imagezip/fuzz/seeds)
du -bs images seeds
