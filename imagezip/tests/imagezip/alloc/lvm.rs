//! LVM2: physical volumes made here byte by byte, and by the tools of LVM itself.

pub(crate) mod made;
mod odd;
mod real;

use std::ops::Range;

use imagezip::alloc::{Content, Evidence, Survey, Treatment, VolumeReport};

use self::made::{EXTENT, Made, linear};
use super::tools::{Image, Pairs, pairs, survey_of};

/// Returns what was found in the volumes of the only partition, which must be believed.
fn volumes(survey: &Survey) -> &[VolumeReport] {
    let [partition] = survey.partitions.as_slice() else { panic!("{:?}", survey.partitions) };
    assert_eq!(partition.content, Content::Lvm2);
    let Treatment::Proven { evidence } = &partition.treatment else { panic!("{:?}", partition.treatment) };
    let text = serde_json::to_string(evidence).unwrap();
    assert_eq!(Evidence::parse(&text).as_ref(), Some(evidence));
    evidence.volumes()
}

/// Returns why a volume is whole.
fn why(volume: &VolumeReport) -> &str {
    match &volume.treatment {
        Treatment::Whole { reason } => reason,
        Treatment::Proven { .. } => panic!("{} is believed", volume.name),
    }
}

/// Returns the bytes of extents.
fn extents(numbers: Range<u64>) -> (u64, u64) {
    let place = |number| made::START + number * u64::try_from(EXTENT).unwrap();
    (place(numbers.start), place(numbers.end))
}

/// Moves what is allocated of a volume to where its pieces of extents lie, in disk order.
fn moved(truth: &Pairs, pieces: &[(u64, u64)]) -> Pairs {
    let size = u64::try_from(EXTENT).unwrap();
    let mut found = Pairs::new();
    let mut logical = 0;
    for (first, count) in pieces {
        let (from, to) = (logical * size, (logical + count) * size);
        for (start, end) in truth {
            let (start, end) = (*start.max(&from), *end.min(&to));
            if start < end {
                let shift = |at: u64| at - from + extents(*first..*first).0;
                found.push((shift(start), shift(end)));
            }
        }
        logical += count;
    }
    found
}

/// Sorts and merges.
fn union(mut ranges: Pairs) -> Pairs {
    ranges.sort_unstable();
    let mut merged = Pairs::new();
    for (start, end) in ranges {
        match merged.last_mut() {
            Some(last) if last.1 >= start => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

#[test]
fn extents_of_no_volume_are_free_and_a_volume_in_pieces_is_a_disk() {
    // 18,000 KiB and a bit in extents of 1 MiB, in pieces that are out of order on the disk.
    let image = Image::new("ext4", 1024, 18_000, &[]);
    let pieces = [(20, 6), (3, 5), (30, 7)];
    let mut made = Made::new(40);
    made.volume("root", linear(&pieces));
    made.volume("swap", linear(&[(9, 4)]));
    made.volume("noise", linear(&[(14, 2)]));
    let mut disk = made.disk();
    made::fill(&mut disk, &pieces, &image.bytes());
    let mut swap = vec![0; 4096];
    swap[1024..1032].copy_from_slice(&[1, 0, 0, 0, 0xFF, 0x03, 0, 0]);
    swap[4086..].copy_from_slice(b"SWAPSPACE2");
    made::fill(&mut disk, &[(9, 4)], &swap);

    let survey = survey_of(&disk);
    let found: Vec<_> = volumes(&survey).iter().map(|v| (v.name.as_str(), v.content, v.len.get() >> 20)).collect();
    let expected = [("g/noise", Content::Unknown, 2), ("g/root", Content::Ext4, 18), ("g/swap", Content::Swap, 4)];
    assert_eq!(found, expected);
    assert_eq!(why(&volumes(&survey)[0]), "nothing known is in it");

    let len = u64::try_from(disk.len()).unwrap();
    let mut truth = image.truth();
    // The truth ends with the file; behind it the volume goes on.
    truth.push((u64::try_from(image.bytes().len()).unwrap(), 18 << 20));
    let mut expected = moved(&union(truth), &pieces);
    let swap_start = extents(9..9).0;
    expected.extend([(0, made::START), extents(14..16), (swap_start, swap_start + 4096), (extents(40..40).0, len)]);
    assert_eq!(pairs(&survey.allocated), union(expected));
}

#[test]
fn a_group_without_volumes_is_free_but_for_its_metadata() {
    let made = Made::new(40);
    let survey = survey_of(&made.disk());
    assert!(volumes(&survey).is_empty());
    let len = u64::try_from(made.disk().len()).unwrap();
    assert_eq!(pairs(&survey.allocated), [(0, made::START), (extents(40..40).0, len)]);
}

#[test]
fn a_text_that_wraps_around_and_a_second_area_at_the_end() {
    let mut made = Made::new(40);
    made.volume("root", linear(&[(2, 3)]));
    for offset in [512, 5000, 65_536 - 100, 65_536 - 1] {
        made.text_at = offset;
        for second in [false, true] {
            made.second_area = second;
            let survey = survey_of(&made.disk());
            assert_eq!(volumes(&survey).len(), 1, "{offset} {second}");
        }
    }
}

#[test]
fn a_hibernation_image_in_a_volume_makes_everything_data() {
    let mut made = Made::new(40);
    made.volume("swap", linear(&[(9, 4)]));
    let mut disk = made.disk();
    let mut swap = vec![0; 4096];
    swap[4086..].copy_from_slice(b"S1SUSPEND\0");
    made::fill(&mut disk, &[(9, 4)], &swap);
    assert_eq!(super::tools::reason(&survey_of(&disk)), "the swap area holds a hibernation image");
}
