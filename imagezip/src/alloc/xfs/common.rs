//! What is free in two states of a group.

use super::tree::Free;
use crate::alloc::doubt::Stop;

/// Calls `each` with every run of blocks that is in an extent of both, in order.
pub(crate) fn each(
    mut one: impl Iterator<Item = Result<Free, Stop>>,
    mut other: impl Iterator<Item = Result<Free, Stop>>,
    mut each: impl FnMut(Free),
) -> Result<(), Stop> {
    let (mut left, mut right) = (one.next().transpose()?, other.next().transpose()?);
    while let (Some(a), Some(b)) = (left, right) {
        let (first, end) = (a.first.max(b.first), a.end().min(b.end()));
        if first < end {
            each(Free { first, blocks: end - first });
        }
        if a.end() <= b.end() {
            left = one.next().transpose()?;
        } else {
            right = other.next().transpose()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(pairs: &[(u32, u32)]) -> impl Iterator<Item = Result<Free, Stop>> {
        pairs.iter().map(|(first, blocks)| Ok(Free { first: *first, blocks: *blocks }))
    }

    fn common(one: &[(u32, u32)], other: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let mut found = Vec::new();
        each(runs(one), runs(other), |run| found.push((run.first, run.blocks))).unwrap();
        found
    }

    #[test]
    fn only_what_is_in_both() {
        assert_eq!(common(&[(0, 10), (20, 10)], &[(5, 20)]), [(5, 5), (20, 5)]);
        assert_eq!(common(&[(0, 10)], &[(10, 10)]), []);
        assert_eq!(common(&[(0, 100)], &[(1, 2), (3, 4), (50, 50)]), [(1, 2), (3, 4), (50, 50)]);
        assert_eq!(common(&[], &[(1, 2)]), []);
        assert_eq!(common(&[(4, 4)], &[(4, 4)]), [(4, 4)]);
    }
}
