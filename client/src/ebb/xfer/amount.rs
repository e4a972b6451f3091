//! Amounts as people write them.

use sigs::ByteLen;

use crate::transfer::limit::Rate;
use crate::transfer::room::{Percent, Reserve};

/// Reads a number of bytes: digits, and K, M, G or T for powers of 1024.
fn bytes(text: &str) -> Result<ByteLen, String> {
    let bad = || format!("{text:?} is no amount: write bytes, or a number with K, M, G or T, such as 50M");
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit {
        "" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(1 << shift).map(ByteLen::new).ok_or_else(bad)
}

/// Reads how fast a transfer may be.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    Rate::new(bytes(text)?).ok_or_else(|| "a transfer of 0 bytes a second never ends".to_owned())
}

/// Reads how much is left free: an amount, or hundredths of the file system.
pub(super) fn reserve(text: &str) -> Result<Reserve, String> {
    match text.strip_suffix('%') {
        None => bytes(text).map(Reserve::Bytes),
        Some(number) => {
            let number: u8 = number.parse().map_err(|_| format!("{text:?} is no percentage from 0% to 99%"))?;
            Percent::try_from(number).map(Reserve::Percent)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read() {
        assert_eq!(bytes("0").unwrap().get(), 0);
        assert_eq!(bytes("50M").unwrap().get(), 50 << 20);
        assert_eq!(bytes("3KiB").unwrap().get(), 3072);
        assert_eq!(bytes("16777215T").unwrap().get(), 16_777_215 << 40);
        for bad in ["", "M", "-1", "1.5G", "50 M", "50m", "16777216T", "99999999999999999999"] {
            assert!(bytes(bad).is_err(), "{bad:?}");
        }
        assert!(rate("0").is_err() && rate("1").is_ok());
        assert_eq!(reserve("10G").unwrap(), Reserve::Bytes(ByteLen::new(10 << 30)));
        assert_eq!(reserve("5%").unwrap(), Reserve::Percent(Percent::try_from(5).unwrap()));
        assert!(["100%", "%", "-1%", "5 %"].iter().all(|bad| reserve(bad).is_err()));
    }
}
