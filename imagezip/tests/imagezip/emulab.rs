//! Emulab's imagezip, imagehash, imageunzip and imagedelta: every defect and limit known of them, and the test that
//! shows it cannot happen here.
//!
//! | there | here |
//! |---|---|
//! | **imagezip, what is saved** | |
//! | partitions that overlap end the run | [`partitions::overlapping_partitions_are_saved_as_data`] |
//! | the space behind the last partition is lost | [`partitions::space_between_and_behind_partitions_comes_back`] |
//! | GPT unknown for years | `alloc::tables`, [`partitions::a_gpt_with_sectors_of_4096_bytes_is_a_disk_like_any`] |
//! | sectors of 512 bytes only | the same |
//! | at most 2 TiB | [`partitions::a_disk_of_three_tebibytes_comes_back`] |
//! | numbers relative to a slice, logical ones only for raw | [`partitions::a_logical_partition_is_an_image_of_its_own`] |
//! | slices 1 to 4 only, at restore | the same: an image of a partition is restored anywhere |
//! | an unused partition makes a really large image | [`partitions::an_unused_partition_costs_nothing`] |
//! | LVM unknown | [`partitions::logical_volumes_are_looked_into`], `alloc::lvm` |
//! | btrfs and XFS unknown | `alloc::btrfs`, `alloc::xfs` |
//! | ZFS, LUKS, RAID unknown and not said so | [`partitions::what_is_not_read_is_saved_and_said_aloud`] |
//! | a file system that is not understood ends the run | [`partitions::a_damaged_file_system_is_saved_as_data`] |
//! | ext4 with 64bit is refused | [`partitions::ext4_of_64_bits_is_read`] |
//! | backups of superblock and descriptors in uninitialised groups are lost | [`partitions::backups_in_uninitialised_groups_come_back`] |
//! | NTFS needs a device node of the partition | cannot be: nothing is read but the disk |
//! | short free ranges are forgotten, so stale data leaks | `stale::stale_bytes_are_never_stored` |
//! | lists of free ranges are sorted by bubble sort: 30 minutes for 100,000 | [`format::a_million_ranges_are_planned_at_once`] |
//! | read errors may become zeros, and the wrong ones | [`delta::a_read_error_is_never_taken_for_content`], `bad_sectors::a_bad_sector_is_listed_its_neighbours_are_saved_and_the_image_is_incomplete` |
//! | a live disk is saved as it happens to be | outside the engine: machines are stopped first (decision 12) |
//! | **the format** | |
//! | no length, no count: a file cut after a chunk is whole | [`format::a_file_cut_anywhere_is_refused`] |
//! | the end of a file in a chunk is a normal end | the same |
//! | chunks without checksum, or SHA-1 under a key of 512 bits | [`format::every_flipped_bit_is_found_by_sha256`] |
//! | order, repetition and absence of chunks unchecked | `damage::frames_in_another_order_are_refused` |
//! | a region table overflows | [`format::a_chunk_has_as_many_ranges_as_it_likes`] |
//! | a last sector that is short needs a relocation | [`format::any_length_comes_back`] |
//! | relocations, not applied for some versions; slices with LILO or a disklabel always differ | cannot be: nothing is ever relocated, [`partitions::a_logical_partition_is_an_image_of_its_own`] |
//! | byte order of the machine | cannot be: little-endian by format, `golden` |
//! | images that are signed or encrypted have no signatures and no deltas | cannot be: seals are beside the image, every image has a signature |
//! | an image says nothing of what is in it | [`format::an_image_says_what_it_is`] |
//! | exit status 1 for everything | `command::what_goes_wrong_has_its_code_and_leaves_nothing` |
//! | a failed run leaves a file that looks valid | [`format::a_failed_run_leaves_no_file`] |
//! | a write is tried again for ever where fsync fails | cannot be: a flush that failed is final (`io::DiskIo`), nothing is tried again |
//! | **deltas** | |
//! | an error while hashing is "no differences" | [`delta::a_read_error_is_never_taken_for_content`], [`delta::a_damaged_signature_is_never_no_differences`] |
//! | an empty delta crashes, or is an empty file | [`delta::an_empty_delta_is_a_valid_image`] |
//! | raw and delta together fail an assertion | [`delta::raw_and_delta_go_together`] |
//! | an allocated range behind the last hash fails an assertion | [`delta::data_behind_everything_the_base_had_is_saved`] |
//! | what was freed or became zero is lost | [`delta::what_was_freed_or_became_zero_is_known`] |
//! | no zeroing of free space with a delta | the same |
//! | 64 KiB are stored for a changed byte | [`delta::one_changed_byte_stores_one_block`] |
//! | boundaries of hashes move with what is allocated before | [`delta::a_new_file_in_front_moves_nothing`] |
//! | signatures of two programs disagree | [`delta::a_signature_is_the_same_however_it_is_made`] |
//! | nothing says which base a delta needs | [`restore::a_delta_is_refused_without_its_base`] |
//! | one base only; no deltas across images | `damage::bases_with_other_blocks_are_an_error_and_deltas_of_deltas_are_not` |
//! | **signatures** | |
//! | belong to an image by time of change | [`delta::a_signature_is_known_by_its_root_not_by_its_time`] |
//! | no checksum of their own | [`delta::a_damaged_signature_is_never_no_differences`] |
//! | MD5 or SHA-1 | [`format::every_flipped_bit_is_found_by_sha256`] |
//! | made by reading the image again; failing only warns | [`delta::an_image_whose_signature_cannot_be_written_fails`] |
//! | the exit status is the number of errors, so 256 are none | [`restore::two_hundred_and_fifty_six_differences_are_not_success`] |
//! | a disk just restored does not match its signature | [`restore::what_was_restored_verifies`] |
//! | **restore** | |
//! | free blocks keep what the last user had | [`restore::stale_data_of_the_target_goes`] |
//! | an image too large for its target is cut short with a warning | [`restore::a_target_that_is_too_small_is_untouched`] |
//! | zeroing does not reach outside a slice | the same as stale data: the image is of the whole target |
//! | a delta is applied to whatever is there | [`restore::a_delta_does_not_trust_what_the_target_holds`] |
//! | images of a chain in the wrong order | [`restore::a_delta_is_refused_without_its_base`] |
//! | a failed restore leaves a disk that boots | `interrupted::cut_off_at_every_action_it_does_not_boot_and_is_finished_by_running_it_again` |
//! | writes are not joined and not ordered | `interrupted::the_ends_go_first_and_come_last_and_the_body_is_written_once` |
//! | targets of another size | `other_size::a_gpt_disk_fits_larger_and_smaller_ones_and_its_backup_is_made_anew`, `other_size::the_program_takes_another_size_when_told_to` |
//! | **offline tools** | |
//! | identical images give no delta | [`delta::an_empty_delta_is_a_valid_image`] |
//! | expanding a delta keeps blocks that were freed | [`delta::what_was_freed_or_became_zero_is_known`] |
//! | comparing needs the same hash and block size, or fails an assertion | `damage::bases_with_other_blocks_are_an_error_and_deltas_of_deltas_are_not` |
//! | diff, squash, rebase missing or half done | `rewrite::a_state_stays_what_it_is_whatever_it_is_stored_against`, `rewrite::between_identical_states_there_is_an_empty_delta` |
//! | its own files, cut, out of order, of two images | `ndz::defects` |

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

mod delta;
mod disks;
mod format;
mod partitions;
mod restore;
