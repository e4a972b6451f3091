//! Groups that are not plain, and bytes that lie.

use imagezip::alloc::Content;
use proptest::prelude::*;

use super::super::tools::{Image, Pairs, pairs, reason, survey_of};
use super::made::{self, AREA, AREA_LEN, EXTENT, Made, linear, segment};
use super::{extents, volumes, why};

/// A group with one volume.
fn plain() -> Made {
    let mut made = Made::new(40);
    made.volume("root", linear(&[(2, 3)]));
    made
}

/// Says why the volume of a changed group is whole.
fn said(change: impl FnOnce(&mut Made)) -> String {
    let mut made = plain();
    change(&mut made);
    reason(&survey_of(&made.disk())).to_owned()
}

#[test]
fn a_group_that_is_not_plain_is_whole_and_says_why() {
    let status = |word: &str| said(|made| made.group[3].1 = format!("[\"READ\", \"{word}\"]"));
    assert_eq!(status("EXPORTED"), "the volume group is exported");
    assert_eq!(status("PARTIAL"), "the volume group is partial");
    assert_eq!(status("PVMOVE"), "the volume group has extents that are being moved");
    assert_eq!(status("SHARED"), "the volume group is shared with other machines");
    assert_eq!(status("NEW"), "it has the status \"NEW\"");
    assert_eq!(said(|made| made.group[4].1 = "[\"X\"]".to_owned()), "it has the status \"X\"");
    assert_eq!(said(|made| made.set("system_id", "\"h\"")), "the volume group belongs to a host that it names");
    assert_eq!(said(|made| made.set("lock_type", "\"dlm\"")), "the volume group is shared with other machines");
    let unknown = said(|made| made.set("new", "1"));
    assert_eq!(unknown, "the metadata of the volume group have the unknown field \"new\"");
    let two = said(|made| made.more_physical = "pv1 { id = \"z\" }\n".to_owned());
    assert_eq!(two, "the volume group does not have exactly one physical volume");
    let missing = said(|made| made.physical[3].1 = "[\"MISSING\"]".to_owned());
    assert_eq!(missing, "the volume group has a physical volume with an unusual status");
    assert!(said(|made| made.physical[0].1 = "\"other\"".to_owned()).ends_with("do not agree on the id"));
    assert!(said(|made| made.set("pe_count", "42")).contains("no usable \"dev_size\""));
    assert!(said(|made| made.set("pe_count", "18446744073709551615")).contains("no usable \"pe_count\""));
    assert!(said(|made| made.set("extent_size", "0")).contains("no usable \"extent_size\""));
    assert!(said(|made| made.set("seqno", "\"7\"")).contains("no usable \"seqno\""));
    assert!(said(|made| made.text = Some("g { }\0".to_owned())).contains("no usable \"contents\""));
    assert!(said(|made| made.text = Some("g { \0".to_owned())).contains("malformed at byte 4"));
    let larger = said(|made| {
        made.set("pe_count", "43");
        made.set("dev_size", "999999");
    });
    assert_eq!(larger, "the volume group is larger than what it is on");
}

#[test]
fn extents_that_cannot_be_right_make_everything_data() {
    let wrong = |pieces: &[(u64, u64)]| {
        let mut made = plain();
        made.volume("zz", linear(pieces));
        reason(&survey_of(&made.disk())).to_owned()
    };
    for pieces in [&[(0, 3)][..], &[(4, 1)], &[(10, 5), (14, 2)], &[(39, 2)], &[(u64::MAX, 1)], &[(1, u64::MAX)]] {
        let says = wrong(pieces);
        assert!(says.starts_with("the extents of the logical volume "), "{says}");
    }
    assert!(wrong(&[(10, 0)]).starts_with("the extents of the logical volume zz"));
    let jump = linear(&[(10, 1), (12, 1)]).replace("start_extent = 1", "start_extent = 2");
    assert!(said(|made| made.volume("jump", jump)).starts_with("the extents of the logical volume jump"));
    let gone = linear(&[(10, 1), (12, 1)]).replace("segment2", "segment3");
    assert!(said(|made| made.volume("gone", gone)).starts_with("the extents of the logical volume gone"));
    let moving = said(|made| made.volume("pvmove0", segment("mirror", 2, "mirrors = [\"pv0\", 10, \"pv0\", 20]")));
    assert_eq!(moving, "a segment of the kind \"mirror\" lies on the physical volume itself");
    let striped = segment("striped", 2, "stripe_count = 2\nstripe_size = 128\nstripes = [\"pv0\", 10, \"pv0\", 20]");
    let striped = said(|made| made.volume("striped", striped));
    assert_eq!(striped, "a segment of the kind \"striped\" lies on the physical volume itself");
    let doubled = said(|made| made.volume("pv0", linear(&[(10, 1)])));
    assert_eq!(doubled, "the volume group has a logical volume with the name of its physical one");
}

#[test]
fn what_other_volumes_are_made_of_is_whole_although_it_looks_like_a_file_system() {
    let image = Image::new("ext4", 1024, 9000, &[]).bytes();
    let mut made = Made::new(70);
    let hidden = "[\"READ\", \"WRITE\"]";
    // A snapshot with its store, a RAID, a thin pool, a volume with a flag, a plain one for comparison.
    for (number, name) in (0..).zip(["origin", "store", "image", "meta", "flagged", "locked", "plain"]) {
        made.volume(name, linear(&[(10 * number, 9)]));
    }
    made.volumes[2].1 = hidden;
    made.volumes[4].1 = "[\"READ\", \"VISIBLE\", \"NEW\"]";
    made.volumes[5].1 = "[\"READ\", \"VISIBLE\", \"LOCKED\"]";
    made.volume("snapshot0", segment("snapshot", 9, "chunk_size = 8\norigin = \"origin\"\ncow_store = \"store\""));
    made.volume("raid", segment("raid1", 9, "device_count = 1\nraids = [\"meta\", \"image\"]"));
    let mut disk = made.disk();
    for number in 0..7 {
        made::fill(&mut disk, &[(10 * number, 9)], &image);
    }
    let survey = survey_of(&disk);
    let found = volumes(&survey);
    let reasons = |name: &str| {
        let volume = found.iter().find(|volume| volume.name == format!("g/{name}")).unwrap();
        (why(volume).to_owned(), volume.len.get() >> 20)
    };
    let part = "another logical volume is made of it".to_owned();
    for name in ["origin", "store", "meta"] {
        assert_eq!(reasons(name), (part.clone(), 9));
    }
    assert_eq!(reasons("image").0, "only LVM uses it");
    assert_eq!(reasons("flagged").0, "it has the status \"NEW\"");
    assert_eq!(reasons("locked").0, "it has the status \"LOCKED\"");
    assert_eq!(reasons("raid"), ("it has a segment of the kind \"raid1\"".to_owned(), 0));
    assert_eq!(reasons("snapshot0").0, "it has a segment of the kind \"snapshot\"");
    assert_eq!(found.iter().filter(|volume| volume.content == Content::Ext4).count(), 1);
    let allocated = pairs(&survey.allocated);
    for number in 0..6 {
        let (start, end) = extents(10 * number..10 * number + 9);
        assert!(allocated.iter().any(|(s, e)| *s <= start && end <= *e), "{number}: {allocated:?}");
    }
}

#[test]
fn labels_and_areas_that_contradict_each_other_make_everything_data() {
    let said = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut made = plain();
        made.second_area = true;
        let mut disk = made.disk();
        change(&mut disk);
        reason(&survey_of(&disk)).to_owned()
    };
    let second = EXTENT * 42 - AREA_LEN;
    let older = |text: &str| text.replace("seqno = 7", "seqno = 6");
    let text = plain().text();
    assert_eq!(
        said(&|disk| made::write_area(disk, second, 512, older(&text).as_bytes())),
        "the metadata areas of the physical volume differ: 7 and 6 changes"
    );
    assert_eq!(
        said(&|disk| made::write_area(disk, second, 512, text.replace("root", "toor").as_bytes())),
        "the metadata areas of the physical volume differ: 7 and 7 changes"
    );
    let header = |at: usize, byte: u8| {
        said(&|disk: &mut Vec<u8>| {
            disk[AREA + at] = byte;
            made::seal_area(disk, AREA);
        })
    };
    assert!(header(64, 9).ends_with("has an update under way"));
    assert!(header(60, 2).ends_with("has unknown flags"));
    assert!(header(20, 2).ends_with("has an unknown version"));
    assert!(header(25, 0).ends_with("belongs elsewhere"));
    assert!(header(43, 1).ends_with("points out of itself"));
    assert!(header(50, 1).ends_with("points out of itself"));
    assert!(header(56, 1).ends_with("has a wrong checksum of its text"));
    let label = |at: usize, byte: u8| {
        said(&|disk: &mut Vec<u8>| {
            disk[at] = byte;
            made::seal_label(disk);
        })
    };
    assert!(label(520, 2).ends_with("belongs to another sector"));
    assert!(label(536, b'X').ends_with("is of an unknown type"));
    assert!(label(532, 8).ends_with("is cut short"));
    assert!(label(533, 9).ends_with("is cut short"));
    assert!(label(544, b'z').ends_with("do not agree on the id"));
    assert!(label(586, 0x11).ends_with("do not agree on the data area"));
    assert!(label(664, 3).ends_with("has an unknown extension"));
    assert!(label(668, 3).ends_with("has unknown flags"));
    // A metadata area, and one for a boot loader, that would lie in the extents.
    assert!(label(674, 0x20).ends_with("do not agree on the place of the metadata"));
    assert_eq!(said(&|disk| disk.copy_within(512..1024, 1024)), "the physical volume has several labels");
    let ignored = |disk: &mut Vec<u8>, place: usize| {
        disk[place + 60] = 1;
        made::seal_area(disk, place);
    };
    assert_eq!(
        said(&|disk| [AREA, second].iter().for_each(|place| ignored(disk, *place))),
        "the physical volume has no metadata in use"
    );
    // One that is out of use may be old.
    let mut made = plain();
    made.second_area = true;
    let mut disk = made.disk();
    made::write_area(&mut disk, second, 512, older(&text).as_bytes());
    ignored(&mut disk, second);
    assert_eq!(volumes(&survey_of(&disk)).len(), 1);
    let empty = |disk: &mut Vec<u8>| {
        disk[AREA + 40..AREA + 64].fill(0);
        made::seal_area(disk, AREA);
    };
    assert_eq!(said(&empty), "the physical volume belongs to no volume group");
}

#[test]
fn a_group_in_a_logical_volume_is_not_followed() {
    let inner = Made::new(2).disk();
    let mut made = Made::new(40);
    made.volume("inner", linear(&[(10, 4)]));
    let mut disk = made.disk();
    made::fill(&mut disk, &[(10, 4)], &inner);
    let survey = survey_of(&disk);
    assert_eq!(volumes(&survey)[0].content, Content::Lvm2);
    assert_eq!(why(&volumes(&survey)[0]), "LVM2 is not read for what it has allocated");
}

#[test]
fn one_damaged_byte_is_noticed_or_does_not_matter() {
    let made = plain();
    let mut disk = made.disk();
    let truth = pairs(&survey_of(&disk).allocated);
    let everything: Pairs = vec![(0, u64::try_from(disk.len()).unwrap())];
    let text = AREA + 512..AREA + 512 + made.text().len();
    for at in (512..1024).chain(AREA..AREA + 512).chain(text) {
        for flip in [0x01, 0x80] {
            disk[at] ^= flip;
            let found = pairs(&survey_of(&disk).allocated);
            disk[at] ^= flip;
            assert_eq!(found, everything, "byte {at} with {flip:#x}");
        }
    }
    assert_eq!(pairs(&survey_of(&disk).allocated), truth);
    for len in (0..5000).step_by(7).chain([AREA, AREA + 600, 70_000, EXTENT, 41 * EXTENT - 1]) {
        let cut = disk[..len].to_vec();
        let all: Pairs = if len == 0 { vec![] } else { vec![(0, u64::try_from(len).unwrap())] };
        assert_eq!(pairs(&survey_of(&cut).allocated), all);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Texts with valid checksums and wild content: any answer, no panic, and the metadata stay data.
    #[test]
    fn wild_texts_have_an_answer(
        cuts in prop::collection::vec((0..2000_usize, prop_oneof![
            Just(String::new()), Just("{".to_owned()), Just("}".to_owned()), Just("\"".to_owned()),
            any::<u64>().prop_map(|number| number.to_string()), (0..45_u64).prop_map(|number| number.to_string()),
            Just("[".to_owned()), Just("#".to_owned()), "[a-z]{1,3}",
        ]), 1..4),
    ) {
        let mut made = plain();
        made.volume("other", linear(&[(7, 1), (9, 4)]));
        let mut text = made.text();
        for (at, new) in cuts {
            let at = at % text.len();
            let end = (at + 3).min(text.len());
            text.replace_range(at..end, &new);
        }
        made.text = Some(text);
        let disk = made.disk();
        let allocated = pairs(&survey_of(&disk).allocated);
        prop_assert!(allocated[0].0 == 0 && allocated[0].1 >= made::START);
    }
}
