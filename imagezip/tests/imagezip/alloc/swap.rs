//! Swap areas as `mkswap` makes them.

use std::fs;

use imagezip::alloc::{Content, Evidence, Treatment};

use super::tools::{Image, pairs, reason, run, survey_file, survey_of};

#[test]
fn all_but_the_header_is_free() {
    for page_size in [4096_u64, 8192, 16384, 32768, 65536] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("swap");
        let len = 40 * page_size + 512;
        fs::File::create(&path).unwrap().set_len(len).unwrap();
        run("mkswap", &["-p", &page_size.to_string(), &path.display().to_string()]);
        let survey = survey_file(&path);
        assert_eq!(survey.partitions[0].content, Content::Swap);
        assert!(matches!(survey.partitions[0].treatment, Treatment::Proven { evidence: Evidence::SwapHeader { .. } }));
        assert_eq!(pairs(&survey.allocated), [(0, page_size), (40 * page_size, len)]);

        let mut bytes = fs::read(&path).unwrap();
        let at = usize::try_from(page_size).unwrap();
        bytes[at - 10..at].copy_from_slice(b"S1SUSPEND\0");
        let survey = survey_of(&bytes);
        assert_eq!(reason(&survey), "the swap area holds a hibernation image");
        assert_eq!(pairs(&survey.allocated), [(0, len)]);
    }
}

#[test]
fn label_and_uuid_are_in_the_header_and_a_smaller_area_leaves_a_tail() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("swap");
    fs::File::create(&path).unwrap().set_len(40 * 4096).unwrap();
    let uuid = "01234567-89ab-cdef-0123-456789abcdef";
    run("mkswap", &["-L", "a label", "-U", uuid, &path.display().to_string()]);
    assert_eq!(pairs(&survey_file(&path).allocated), [(0, 4096)]);
    // A partition that grew: what is behind the area is nobody's. One that shrank: the header lies.
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(50 * 4096).unwrap();
    assert_eq!(pairs(&survey_file(&path).allocated), [(0, 4096), (40 * 4096, 50 * 4096)]);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(39 * 4096).unwrap();
    assert_eq!(reason(&survey_file(&path)), "the swap area does not fit its partition");
}

#[test]
fn swap_and_ext_at_once_are_a_doubt() {
    let mut bytes = Image::fresh("ext4", 4096, 4000, &[]).bytes();
    bytes[4086..4096].copy_from_slice(b"SWAPSPACE2");
    assert_eq!(reason(&survey_of(&bytes)), "it carries the marks of ext4 and of swap");
}
