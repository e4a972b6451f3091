//! The checksum of LVM2: the CRC-32 of zip with a start value of its own and no inversion at either end.

/// What every chain starts from.
const START: u32 = 0xF597_A6CF;

/// Returns the checksum over pieces that follow each other.
pub(super) fn checksum(pieces: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(!START);
    pieces.iter().for_each(|piece| hasher.update(piece));
    !hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_chain_and_nothing_is_the_start() {
        assert_eq!(checksum(&[]), START);
        assert_eq!(checksum(&[b"1234", b"56789"]), checksum(&[b"123456789"]));
        assert_ne!(checksum(&[b"123456789"]), checksum(&[b"123456780"]));
    }
}
