//! The two checksums of ext4: CRC-32C (Castagnoli) and CRC-16 (ARC), both reflected, both without a final inversion.
//!
//! They take the running value and return it, because ext4 chains them over pieces.

const CRC16_TABLE: [u16; 256] = crc16_table();

/// The value ext4 starts a chain of CRC-32C with.
pub(crate) const CRC32C_START: u32 = u32::MAX;
/// The value ext4 starts a chain of CRC-16 with.
pub(crate) const CRC16_START: u16 = u16::MAX;

/// Continues a CRC-32C over `bytes`.
pub(crate) fn crc32c(start: u32, bytes: &[u8]) -> u32 {
    // The crate inverts before and after; between the pieces of a chain that cancels out.
    !crc32c::crc32c_append(!start, bytes)
}

/// Continues a CRC-16 over `bytes`.
pub(crate) fn crc16(start: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(start, |crc, byte| {
        let [low, _] = crc.to_le_bytes();
        (crc >> 8) ^ CRC16_TABLE[usize::from(low ^ byte)]
    })
}

const fn crc16_table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    let mut value = 0_u16;
    while index < table.len() {
        let mut crc = value;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
        value += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_check_values() {
        assert_eq!(!crc32c(CRC32C_START, b"123456789"), 0xE306_9283);
        // RFC 3720 B.4: 32 bytes of zeros, and of ones.
        assert_eq!(!crc32c(CRC32C_START, &[0; 32]), 0x8A91_36AA);
        assert_eq!(!crc32c(CRC32C_START, &[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc16(0, b"123456789"), 0xBB3D);
    }

    #[test]
    fn pieces_chain() {
        let whole = crc32c(CRC32C_START, b"123456789");
        assert_eq!(crc32c(crc32c(CRC32C_START, b"1234"), b"56789"), whole);
        let whole = crc16(CRC16_START, b"123456789");
        assert_eq!(crc16(crc16(CRC16_START, b"1234"), b"56789"), whole);
    }
}
