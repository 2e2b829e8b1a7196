//! Comparing names without case, as exFAT and Windows do.
//!
//! Each UTF-16 code unit has at most one upper-case code unit; surrogates stand for themselves. The mapping is that of
//! exFAT's recommended up-case table (its specification, 7.2.5), written as runs: 119 runs instead of 128 KiB.

use core::cmp::Ordering;

/// Code units `first`, `first + step`, ... `last`, whose upper case is at a fixed distance.
struct Run {
    first: u16,
    last: u16,
    step: u16,
    distance: i16,
}

impl Run {
    const fn new(first: u16, last: u16, step: u16, distance: i16) -> Run {
        Run { first, last, step, distance }
    }
}

/// In ascending order, without overlap.
#[rustfmt::skip]
const RUNS: &[Run] = &[
    Run::new(0x0061, 0x007A, 1, -32), Run::new(0x00E0, 0x00F6, 1, -32), Run::new(0x00F8, 0x00FE, 1, -32),
    Run::new(0x00FF, 0x00FF, 1, 121), Run::new(0x0101, 0x012F, 2, -1), Run::new(0x0133, 0x0137, 2, -1),
    Run::new(0x013A, 0x0148, 2, -1), Run::new(0x014B, 0x0177, 2, -1), Run::new(0x017A, 0x017E, 2, -1),
    Run::new(0x0180, 0x0180, 1, 195), Run::new(0x0183, 0x0185, 2, -1), Run::new(0x0188, 0x0188, 1, -1),
    Run::new(0x018C, 0x018C, 1, -1), Run::new(0x0192, 0x0192, 1, -1), Run::new(0x0195, 0x0195, 1, 97),
    Run::new(0x0199, 0x0199, 1, -1), Run::new(0x019A, 0x019A, 1, 163), Run::new(0x019E, 0x019E, 1, 130),
    Run::new(0x01A1, 0x01A5, 2, -1), Run::new(0x01A8, 0x01A8, 1, -1), Run::new(0x01AD, 0x01AD, 1, -1),
    Run::new(0x01B0, 0x01B0, 1, -1), Run::new(0x01B4, 0x01B6, 2, -1), Run::new(0x01B9, 0x01B9, 1, -1),
    Run::new(0x01BD, 0x01BD, 1, -1), Run::new(0x01BF, 0x01BF, 1, 56), Run::new(0x01C6, 0x01C6, 1, -2),
    Run::new(0x01C9, 0x01C9, 1, -2), Run::new(0x01CC, 0x01CC, 1, -2), Run::new(0x01CE, 0x01DC, 2, -1),
    Run::new(0x01DD, 0x01DD, 1, -79), Run::new(0x01DF, 0x01EF, 2, -1), Run::new(0x01F3, 0x01F3, 1, -2),
    Run::new(0x01F5, 0x01F5, 1, -1), Run::new(0x01F9, 0x021F, 2, -1), Run::new(0x0223, 0x0233, 2, -1),
    Run::new(0x023A, 0x023A, 1, 10795), Run::new(0x023C, 0x023C, 1, -1), Run::new(0x023E, 0x023E, 1, 10792),
    Run::new(0x0242, 0x0242, 1, -1), Run::new(0x0247, 0x024F, 2, -1), Run::new(0x0253, 0x0253, 1, -210),
    Run::new(0x0254, 0x0254, 1, -206), Run::new(0x0256, 0x0257, 1, -205), Run::new(0x0259, 0x0259, 1, -202),
    Run::new(0x025B, 0x025B, 1, -203), Run::new(0x0260, 0x0260, 1, -205), Run::new(0x0263, 0x0263, 1, -207),
    Run::new(0x0268, 0x0268, 1, -209), Run::new(0x0269, 0x0269, 1, -211), Run::new(0x026B, 0x026B, 1, 10743),
    Run::new(0x026F, 0x026F, 1, -211), Run::new(0x0272, 0x0272, 1, -213), Run::new(0x0275, 0x0275, 1, -214),
    Run::new(0x027D, 0x027D, 1, 10727), Run::new(0x0280, 0x0280, 1, -218), Run::new(0x0283, 0x0283, 1, -218),
    Run::new(0x0288, 0x0288, 1, -218), Run::new(0x0289, 0x0289, 1, -69), Run::new(0x028A, 0x028B, 1, -217),
    Run::new(0x028C, 0x028C, 1, -71), Run::new(0x0292, 0x0292, 1, -219), Run::new(0x037B, 0x037D, 1, 130),
    Run::new(0x03AC, 0x03AC, 1, -38), Run::new(0x03AD, 0x03AF, 1, -37), Run::new(0x03B1, 0x03C1, 1, -32),
    Run::new(0x03C2, 0x03C2, 1, -31), Run::new(0x03C3, 0x03CB, 1, -32), Run::new(0x03CC, 0x03CC, 1, -64),
    Run::new(0x03CD, 0x03CE, 1, -63), Run::new(0x03D9, 0x03EF, 2, -1), Run::new(0x03F2, 0x03F2, 1, 7),
    Run::new(0x03F8, 0x03F8, 1, -1), Run::new(0x03FB, 0x03FB, 1, -1), Run::new(0x0430, 0x044F, 1, -32),
    Run::new(0x0450, 0x045F, 1, -80), Run::new(0x0461, 0x0481, 2, -1), Run::new(0x048B, 0x04BF, 2, -1),
    Run::new(0x04C2, 0x04CE, 2, -1), Run::new(0x04CF, 0x04CF, 1, -15), Run::new(0x04D1, 0x0513, 2, -1),
    Run::new(0x0561, 0x0586, 1, -48), Run::new(0x1D7D, 0x1D7D, 1, 3814), Run::new(0x1E01, 0x1E95, 2, -1),
    Run::new(0x1EA1, 0x1EF9, 2, -1), Run::new(0x1F00, 0x1F07, 1, 8), Run::new(0x1F10, 0x1F15, 1, 8),
    Run::new(0x1F20, 0x1F27, 1, 8), Run::new(0x1F30, 0x1F37, 1, 8), Run::new(0x1F40, 0x1F45, 1, 8),
    Run::new(0x1F51, 0x1F57, 2, 8), Run::new(0x1F60, 0x1F67, 1, 8), Run::new(0x1F70, 0x1F71, 1, 74),
    Run::new(0x1F72, 0x1F75, 1, 86), Run::new(0x1F76, 0x1F77, 1, 100), Run::new(0x1F78, 0x1F79, 1, 128),
    Run::new(0x1F7A, 0x1F7B, 1, 112), Run::new(0x1F7C, 0x1F7D, 1, 126), Run::new(0x1F80, 0x1F87, 1, 8),
    Run::new(0x1F90, 0x1F97, 1, 8), Run::new(0x1FA0, 0x1FA7, 1, 8), Run::new(0x1FB0, 0x1FB1, 1, 8),
    Run::new(0x1FB3, 0x1FB3, 1, 9), Run::new(0x1FCC, 0x1FCC, 1, -9), Run::new(0x1FD0, 0x1FD1, 1, 8),
    Run::new(0x1FE0, 0x1FE1, 1, 8), Run::new(0x1FE5, 0x1FE5, 1, 7), Run::new(0x1FFC, 0x1FFC, 1, -9),
    Run::new(0x214E, 0x214E, 1, -28), Run::new(0x2170, 0x217F, 1, -16), Run::new(0x2184, 0x2184, 1, -1),
    Run::new(0x24D0, 0x24E9, 1, -26), Run::new(0x2C30, 0x2C5E, 1, -48), Run::new(0x2C61, 0x2C61, 1, -1),
    Run::new(0x2C68, 0x2C6C, 2, -1), Run::new(0x2C76, 0x2C76, 1, -1), Run::new(0x2C81, 0x2CE3, 2, -1),
    Run::new(0x2D00, 0x2D25, 1, -7264), Run::new(0xFF41, 0xFF5A, 1, -32),
];

/// The upper case of a code unit.
#[inline(always)]
pub const fn upcase(unit: u16) -> u16 {
    if unit < 0x80 {
        // Without a branch: this is done for every unit of every name that is listed or looked up.
        return unit - (((unit.wrapping_sub(b'a' as u16) < 26) as u16) << 5);
    }
    upcase_by_table(unit)
}

#[inline(never)]
const fn upcase_by_table(unit: u16) -> u16 {
    let (mut low, mut high) = (0, RUNS.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let run = &RUNS[middle];
        if unit < run.first {
            high = middle;
        } else if unit > run.last {
            low = middle + 1;
        } else if (unit - run.first).is_multiple_of(run.step) {
            return unit.wrapping_add_signed(run.distance);
        } else {
            return unit;
        }
    }
    unit
}

/// Orders names as their upper case.
pub fn compare_names(left: &[u16], right: &[u16]) -> Ordering {
    left.iter().map(|unit| upcase(*unit)).cmp(right.iter().map(|unit| upcase(*unit)))
}

/// Whether two names are one, case left aside.
pub fn equal_names(left: &[u16], right: &[u16]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).all(|(left, right)| left == right || upcase(*left) == upcase(*right))
}

/// A hash that is the same for names that are one (FNV-1a, 32 bits). Not against adversaries: for tables in which a
/// collision costs a comparison.
pub fn hash_name(name: &[u16]) -> u32 {
    name.iter().fold(0x811C_9DC5, |hash, unit| {
        let unit = upcase(*unit);
        let low = (hash ^ u32::from(unit & 0xFF)).wrapping_mul(0x0100_0193);
        (low ^ u32::from(unit >> 8)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn utf16(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    /// Over all 65,536 values, against a digest of the table that mkfs.exfat writes (its checksum is 0xE619D30D).
    #[test]
    fn the_runs_are_the_recommended_table() {
        let mut digest = 0xCBF2_9CE4_8422_2325u64;
        for unit in 0..=u16::MAX {
            for byte in upcase(unit).to_le_bytes() {
                digest = (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
            }
        }
        assert_eq!(digest, 0x6C79_8DD1_770E_2D9D);
    }

    #[test]
    fn names_compare_without_case() {
        assert!(equal_names(&utf16("Ärger.TXT"), &utf16("äRGER.txt")));
        assert!(!equal_names(&utf16("a"), &utf16("ab")));
        assert_eq!(hash_name(&utf16("Straße")), hash_name(&utf16("STRAßE")));
        assert_ne!(hash_name(&utf16("a")), hash_name(&utf16("b")));
        assert_eq!(compare_names(&utf16("b"), &utf16("A")), Ordering::Greater);
        assert_eq!(compare_names(&utf16("a"), &utf16("AA")), Ordering::Less);
        assert_eq!(upcase(0xD800), 0xD800);
    }
}
