//! SHA-256 of several blocks of one length at once.
//!
//! One message keeps a processor waiting: each round needs the one before it. Blocks of a disk are independent, so two
//! go through the SHA instructions side by side, which is nearly twice as fast as one after the other; where there are
//! no such instructions, eight go through the lanes of vector registers. What neither can do, the `sha2` crate does.
//! The algorithm is that of FIPS 180-4; every path is tested against `sha2`.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "a function for certain instructions may be called only where they were found")
)]

use super::BlockHash;

/// The most blocks that are hashed at once.
const MOST_LANES: usize = 8;

/// Hashes blocks and hands their hashes over in order.
pub(super) fn hash_blocks<'a>(blocks: impl Iterator<Item = &'a [u8]>, mut take: impl FnMut(BlockHash)) {
    let lanes = lanes();
    let mut waiting: [&[u8]; MOST_LANES] = [&[]; MOST_LANES];
    let mut count = 0;
    for block in blocks {
        if waiting[..count].iter().any(|other| other.len() != block.len()) {
            hash_group(&waiting[..count], &mut take);
            count = 0;
        }
        waiting[count] = block;
        count += 1;
        if count == lanes {
            hash_group(&waiting[..count], &mut take);
            count = 0;
        }
    }
    hash_group(&waiting[..count], &mut take);
}

#[cfg(not(target_arch = "x86_64"))]
const fn lanes() -> usize {
    1
}

/// Hashes blocks of one length.
#[cfg(not(target_arch = "x86_64"))]
fn hash_group(blocks: &[&[u8]], take: &mut impl FnMut(BlockHash)) {
    blocks.iter().for_each(|block| take(BlockHash::of(block)));
}

/// Returns how many blocks this processor hashes best at once.
#[cfg(target_arch = "x86_64")]
fn lanes() -> usize {
    match x86::found() {
        x86::Found::Sha => 2,
        x86::Found::Avx2 => 8,
        x86::Found::Neither => 1,
    }
}

/// Hashes blocks of one length.
#[cfg(target_arch = "x86_64")]
fn hash_group(blocks: &[&[u8]], take: &mut impl FnMut(BlockHash)) {
    let whole = blocks.first().is_some_and(|block| block.len().is_multiple_of(64));
    match (x86::found(), blocks) {
        (x86::Found::Sha, [a, b]) if whole => {
            // SAFETY: `found` has seen the instructions.
            let hashes = unsafe { x86::pair(a, b) };
            hashes.into_iter().for_each(|hash| take(BlockHash::from_bytes(hash)));
        }
        (x86::Found::Avx2, [a, b, c, d, e, f, g, h]) if whole => {
            // SAFETY: `found` has seen the instructions.
            let hashes = unsafe { x86::eight([a, b, c, d, e, f, g, h]) };
            hashes.into_iter().for_each(|hash| take(BlockHash::from_bytes(hash)));
        }
        _ => blocks.iter().for_each(|block| take(BlockHash::of(block))),
    }
}

/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
#[cfg(target_arch = "x86_64")]
const K: [u32; 64] = [
    0x428a_2f98,
    0x7137_4491,
    0xb5c0_fbcf,
    0xe9b5_dba5,
    0x3956_c25b,
    0x59f1_11f1,
    0x923f_82a4,
    0xab1c_5ed5,
    0xd807_aa98,
    0x1283_5b01,
    0x2431_85be,
    0x550c_7dc3,
    0x72be_5d74,
    0x80de_b1fe,
    0x9bdc_06a7,
    0xc19b_f174,
    0xe49b_69c1,
    0xefbe_4786,
    0x0fc1_9dc6,
    0x240c_a1cc,
    0x2de9_2c6f,
    0x4a74_84aa,
    0x5cb0_a9dc,
    0x76f9_88da,
    0x983e_5152,
    0xa831_c66d,
    0xb003_27c8,
    0xbf59_7fc7,
    0xc6e0_0bf3,
    0xd5a7_9147,
    0x06ca_6351,
    0x1429_2967,
    0x27b7_0a85,
    0x2e1b_2138,
    0x4d2c_6dfc,
    0x5338_0d13,
    0x650a_7354,
    0x766a_0abb,
    0x81c2_c92e,
    0x9272_2c85,
    0xa2bf_e8a1,
    0xa81a_664b,
    0xc24b_8b70,
    0xc76c_51a3,
    0xd192_e819,
    0xd699_0624,
    0xf40e_3585,
    0x106a_a070,
    0x19a4_c116,
    0x1e37_6c08,
    0x2748_774c,
    0x34b0_bcb5,
    0x391c_0cb3,
    0x4ed8_aa4a,
    0x5b9c_ca4f,
    0x682e_6ff3,
    0x748f_82ee,
    0x78a5_636f,
    0x84c8_7814,
    0x8cc7_0208,
    0x90be_fffa,
    0xa450_6ceb,
    0xbef9_a3f7,
    0xc671_78f2,
];

/// The first 32 bits of the fractional parts of the square roots of the first 8 primes.
#[cfg(target_arch = "x86_64")]
const START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Returns the last 64 bytes that go through the rounds for a message of `len` bytes, a multiple of 64.
#[cfg(target_arch = "x86_64")]
fn padding(len: usize) -> [u8; 64] {
    let mut block = [0; 64];
    block[0] = 0x80;
    let bits = u64::try_from(len).unwrap_or(u64::MAX).saturating_mul(8);
    block[56..].copy_from_slice(&bits.to_be_bytes());
    block
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_cvtsi128_si64, _mm_extract_epi64, _mm_set_epi32,
        _mm_set_epi64x, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8,
        _mm_shuffle_epi32,
    };

    use super::{K, START, padding};

    /// Which instructions this processor has.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Found {
        Sha,
        Avx2,
        Neither,
    }

    /// Looks at the processor; the answer is remembered by the standard library.
    pub(super) fn found() -> Found {
        let sha = cfg!(not(ebb_without_sha_instructions))
            && is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1");
        match (sha, is_x86_feature_detected!("avx2")) {
            (true, _) => Found::Sha,
            (false, true) => Found::Avx2,
            (false, false) => Found::Neither,
        }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn load(bytes: &[u8]) -> __m128i {
        let word = |at: usize| {
            let eight = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>).copied().unwrap_or_default();
            i64::from_le_bytes(eight)
        };
        _mm_set_epi64x(word(8), word(0))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn words(four: [u32; 4]) -> __m128i {
        let [a, b, c, d] = four.map(u32::cast_signed);
        _mm_set_epi32(d, c, b, a)
    }

    /// The state as the instructions want it: (a, b, e, f) and (c, d, g, h) of each lane.
    type State = [(__m128i, __m128i); 2];

    /// Puts 64 bytes of each of two messages through the rounds, side by side.
    #[inline]
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn rounds(state: &mut State, blocks: [&[u8; 64]; 2]) {
        let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        let before = *state;
        let mut w = blocks.map(|block| {
            let quad = |at: usize| _mm_shuffle_epi8(load(&block[at * 16..at * 16 + 16]), swap);
            [quad(0), quad(1), quad(2), quad(3)]
        });
        macro_rules! quad {
            ($n:literal) => {
                for lane in 0..2 {
                    let (abef, cdgh) = &mut state[lane];
                    if $n >= 4 {
                        let w = &mut w[lane];
                        let older = _mm_sha256msg1_epu32(w[$n % 4], w[($n + 1) % 4]);
                        let middle = _mm_alignr_epi8::<4>(w[($n + 3) % 4], w[($n + 2) % 4]);
                        w[$n % 4] = _mm_sha256msg2_epu32(_mm_add_epi32(older, middle), w[($n + 3) % 4]);
                    }
                    let k = words([K[$n * 4], K[$n * 4 + 1], K[$n * 4 + 2], K[$n * 4 + 3]]);
                    let sum = _mm_add_epi32(w[lane][$n % 4], k);
                    *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, sum);
                    *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32::<0x0e>(sum));
                }
            };
            ($($n:literal)*) => { $(quad!($n);)* };
        }
        quad!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        for (now, before) in state.iter_mut().zip(before) {
            *now = (_mm_add_epi32(now.0, before.0), _mm_add_epi32(now.1, before.1));
        }
    }

    /// Hashes two messages of one length, a multiple of 64 bytes.
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    pub(super) fn pair(a: &[u8], b: &[u8]) -> [[u8; 32]; 2] {
        let [s0, s1, s2, s3, s4, s5, s6, s7] = START;
        let start = (words([s5, s4, s1, s0]), words([s7, s6, s3, s2]));
        let mut state = [start; 2];
        for (a, b) in a.as_chunks::<64>().0.iter().zip(b.as_chunks::<64>().0) {
            rounds(&mut state, [a, b]);
        }
        let last = padding(a.len());
        rounds(&mut state, [&last, &last]);
        state.map(|(abef, cdgh)| {
            // To (a, b, c, d) and (e, f, g, h), whose bytes are big-endian.
            let feba = _mm_shuffle_epi32::<0x1b>(abef);
            let dchg = _mm_shuffle_epi32::<0xb1>(cdgh);
            let abcd = _mm_blend_epi16::<0xf0>(feba, dchg);
            let efgh = _mm_alignr_epi8::<8>(dchg, feba);
            let mut bytes = [0; 32];
            for (half, place) in [(abcd, 0), (efgh, 16)] {
                for (word, at) in [(_mm_cvtsi128_si64(half), 0), (_mm_extract_epi64::<1>(half), 8)] {
                    let [b0, b1, b2, b3, b4, b5, b6, b7] = word.to_le_bytes();
                    bytes[place + at..place + at + 8].copy_from_slice(&[b3, b2, b1, b0, b7, b6, b5, b4]);
                }
            }
            bytes
        })
    }

    /// One 32-bit number for each of eight messages; what is done to it is done to all, which compilers turn into
    /// vector instructions.
    type Lanes = [u32; 8];

    #[inline(always)]
    fn each(mut f: impl FnMut(usize) -> u32) -> Lanes {
        let mut out = [0; 8];
        for (lane, out) in out.iter_mut().enumerate() {
            *out = f(lane);
        }
        out
    }

    /// Hashes eight messages of one length, a multiple of 64 bytes.
    #[target_feature(enable = "avx2")]
    pub(super) fn eight(messages: [&[u8]; 8]) -> [[u8; 32]; 8] {
        let mut state = START.map(|word| [word; 8]);
        let [size, ..] = messages.map(<[u8]>::len);
        let last = padding(size);
        for at in (0..size).step_by(64) {
            let word = |lane: usize, t: usize| {
                let four = messages[lane].get(at + t * 4..).and_then(<[u8]>::first_chunk::<4>);
                u32::from_be_bytes(four.copied().unwrap_or_default())
            };
            eight_rounds(&mut state, word);
        }
        eight_rounds(&mut state, |_, t| {
            let four = last.get(t * 4..).and_then(<[u8]>::first_chunk::<4>).copied().unwrap_or_default();
            u32::from_be_bytes(four)
        });
        let mut hashes = [[0; 32]; 8];
        for (lane, hash) in hashes.iter_mut().enumerate() {
            for (word, place) in state.iter().zip(hash.as_chunks_mut::<4>().0) {
                *place = word[lane].to_be_bytes();
            }
        }
        hashes
    }

    #[inline(always)]
    fn eight_rounds(state: &mut [Lanes; 8], word: impl Fn(usize, usize) -> u32) {
        let mut w = [[0; 8]; 16];
        for (t, w) in w.iter_mut().enumerate() {
            *w = each(|lane| word(lane, t));
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
        for t in 0..64 {
            if t >= 16 {
                let (w15, w2, w7, w16) = (w[(t + 1) % 16], w[(t + 14) % 16], w[(t + 9) % 16], w[t % 16]);
                w[t % 16] = each(|l| {
                    let s0 = w15[l].rotate_right(7) ^ w15[l].rotate_right(18) ^ (w15[l] >> 3);
                    let s1 = w2[l].rotate_right(17) ^ w2[l].rotate_right(19) ^ (w2[l] >> 10);
                    w16[l].wrapping_add(s0).wrapping_add(w7[l]).wrapping_add(s1)
                });
            }
            let (now, k) = (w[t % 16], K[t]);
            let t1 = each(|l| {
                let s1 = e[l].rotate_right(6) ^ e[l].rotate_right(11) ^ e[l].rotate_right(25);
                let ch = (e[l] & f[l]) ^ (!e[l] & g[l]);
                h[l].wrapping_add(s1).wrapping_add(ch).wrapping_add(k).wrapping_add(now[l])
            });
            let t2 = each(|l| {
                let s0 = a[l].rotate_right(2) ^ a[l].rotate_right(13) ^ a[l].rotate_right(22);
                let maj = (a[l] & b[l]) ^ (a[l] & c[l]) ^ (b[l] & c[l]);
                s0.wrapping_add(maj)
            });
            (h, g, f) = (g, f, e);
            e = each(|l| d[l].wrapping_add(t1[l]));
            (d, c, b) = (c, b, a);
            a = each(|l| t1[l].wrapping_add(t2[l]));
        }
        for (state, now) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *state = each(|l| state[l].wrapping_add(now[l]));
        }
    }

    #[cfg(test)]
    mod tests {
        use sha2::{Digest as _, Sha256};

        use super::*;

        fn noise(len: usize) -> Vec<u8> {
            let mut word = 0x1234_5678_9abc_def1_u64;
            let mut next = || {
                word ^= word << 13;
                word ^= word >> 7;
                word ^= word << 17;
                word.to_le_bytes()[3]
            };
            (0..len).map(|_| next()).collect()
        }

        #[test]
        fn eight_at_once_are_as_one_by_one() {
            if !is_x86_feature_detected!("avx2") {
                eprintln!("skipped: this processor has no AVX2");
                return;
            }
            for size in [64, 512, 4096] {
                let content = noise(size * 8);
                let mut group: [&[u8]; 8] = [&[]; 8];
                group.iter_mut().zip(content.chunks(size)).for_each(|(place, block)| *place = block);
                // SAFETY: the instructions are there.
                let hashes = unsafe { eight(group) };
                for (block, hash) in group.iter().zip(hashes) {
                    assert_eq!(hash, <[u8; 32]>::from(Sha256::digest(block)));
                }
            }
        }

        #[test]
        fn two_at_once_are_as_one_by_one() {
            if found() != Found::Sha {
                eprintln!("skipped: this processor has no SHA instructions");
                return;
            }
            for size in [64, 128, 512, 4096] {
                let (a, b) = (noise(size), noise(size * 2).split_off(size));
                // SAFETY: the instructions are there.
                let hashes = unsafe { pair(&a, &b) };
                assert_eq!(hashes, [a, b].map(|block| <[u8; 32]>::from(Sha256::digest(block))));
            }
        }
    }
}
