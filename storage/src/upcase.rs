//! The up-case table: which names count as equal (exFAT 7.2). FAT volumes, which carry none, use the generated one.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// Maps each UTF-16 code unit to its upper-case one. Blocks of 256 that map to themselves take no room.
pub(crate) struct UpcaseTable {
    blocks: Vec<Option<Box<[u16; 256]>>>,
}

impl UpcaseTable {
    /// The mappings of Windows' table.
    pub(crate) fn generate() -> Self {
        let mut table = Self::identity();
        for unit in 0..=u16::MAX {
            let mapped = upper(unit);
            if mapped != unit {
                table.set(unit, mapped);
            }
        }
        table
    }

    /// Reads a table as stored: little-endian units, 0xFFFF followed by a count of units that map to themselves.
    /// What the table leaves out maps to itself. `None` if it is malformed or does not map ASCII as it must.
    pub(crate) fn parse(stored: &[u8]) -> Option<Self> {
        let mut table = Self::identity();
        let mut unit = 0u32;
        let mut units = stored.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        while let Some(mapped) = units.next() {
            if unit > 0xFFFF {
                return None;
            }
            // 0xFFFF as the very last unit is itself the mapping of 0xFFFF.
            if mapped == 0xFFFF && unit != 0xFFFF {
                unit = unit.checked_add(u32::from(units.next()?))?;
                continue;
            }
            if u32::from(mapped) != unit {
                table.set(unit as u16, mapped);
            }
            unit += 1;
        }
        let ascii = (0..128u16).all(|unit| table.upper(unit) == upper(unit));
        ascii.then_some(table)
    }

    /// The table as stored, compressed.
    pub(crate) fn store(&self) -> Vec<u8> {
        let mut stored = Vec::new();
        let mut unit = 0u32;
        while unit <= 0xFFFF {
            let same =
                (unit..=0xFFFF).take_while(|&next| self.upper(next as u16) == next as u16).count() as u32;
            if same > 2 || (same > 0 && unit + same > 0xFFFF) {
                // A count is 16 bits wide.
                let count = same.min(0xFFFF);
                stored.extend_from_slice(&[0xFF, 0xFF]);
                stored.extend_from_slice(&(count as u16).to_le_bytes());
                unit += count;
            } else {
                stored.extend_from_slice(&self.upper(unit as u16).to_le_bytes());
                unit += 1;
            }
        }
        stored
    }

    /// The upper case of a code unit.
    #[inline]
    pub(crate) fn upper(&self, unit: u16) -> u16 {
        match self.blocks.get(usize::from(unit >> 8)) {
            Some(Some(block)) => block[usize::from(unit & 0xFF)],
            _ => unit,
        }
    }

    /// Whether two names count as equal.
    pub(crate) fn equal(&self, one: &[u16], other: &[u16]) -> bool {
        one.len() == other.len()
            && one
                .iter()
                .zip(other)
                .all(|(&one, &other)| one == other || self.upper(one) == self.upper(other))
    }

    /// A hash under which equal names are equal (FNV-1a over the upper case).
    pub(crate) fn hash(&self, name: &[u16]) -> u32 {
        let mut hash = 0x811C_9DC5u32;
        for &unit in name {
            hash = (hash ^ u32::from(self.upper(unit))).wrapping_mul(0x0100_0193);
        }
        hash
    }

    /// exFAT's own name hash (7.6.4).
    pub(crate) fn exfat_hash(&self, name: &[u16]) -> u16 {
        let mut hash = 0u16;
        for &unit in name {
            for byte in self.upper(unit).to_le_bytes() {
                hash = hash.rotate_right(1).wrapping_add(u16::from(byte));
            }
        }
        hash
    }

    fn identity() -> Self {
        let mut blocks = Vec::with_capacity(256);
        blocks.resize_with(256, || None);
        Self { blocks }
    }

    fn set(&mut self, unit: u16, mapped: u16) {
        let base = unit & 0xFF00;
        if let Some(block) = self.blocks.get_mut(usize::from(unit >> 8)) {
            let block = block.get_or_insert_with(|| {
                let mut block = Box::new([0; 256]);
                for (low, place) in block.iter_mut().enumerate() {
                    *place = base | low as u16;
                }
                block
            });
            block[usize::from(unit & 0xFF)] = mapped;
        }
    }
}

/// The checksum of a stored table (7.2.2).
pub(crate) fn table_checksum(stored: &[u8]) -> u32 {
    stored.iter().fold(0u32, |sum, &byte| sum.rotate_right(1).wrapping_add(u32::from(byte)))
}

/// Units that the table of the exFAT specification (7.2.5.1) leaves alone: Windows knows them from a time before Unicode
/// gave them an upper case. First and last of each range.
const LEFT_ALONE: [(u16, u16); 22] = [
    (0x00B5, 0x00B5),
    (0x01C5, 0x01C5),
    (0x01C8, 0x01C8),
    (0x01CB, 0x01CB),
    (0x01F2, 0x01F2),
    (0x023F, 0x0240),
    (0x0250, 0x0252),
    (0x0271, 0x0271),
    (0x0345, 0x0377),
    (0x03D0, 0x03D7),
    (0x03F0, 0x03F1),
    (0x03F3, 0x03F5),
    (0x0515, 0x052F),
    (0x1C80, 0x1C87),
    (0x1E9B, 0x1E9B),
    (0x1EFB, 0x1EFF),
    (0x1FBE, 0x1FBE),
    (0x2C5F, 0x2C5F),
    (0x2C65, 0x2C66),
    (0x2C73, 0x2C73),
    (0x2CEC, 0x2CF3),
    (0x2D27, 0x2D2D),
];

/// The upper case as Windows has it: Unicode's simple mapping but for what came later and for some oddities.
fn upper(unit: u16) -> u16 {
    match unit {
        0x023A => return 0x2C65,
        0x023E => return 0x2C66,
        0x1F80..=0x1FAF if unit & 8 == 0 => return unit + 8,
        0x1FB3 => return 0x1FBC,
        0x1FCC => return 0x1FC3,
        0x1FFC => return 0x1FF3,
        _ => (),
    }
    let Some(character) = char::from_u32(u32::from(unit)) else { return unit };
    let mut mapped = character.to_uppercase();
    let single = match (mapped.next().map(u32::from), mapped.next()) {
        // Only one unit to one unit; and é stays apart from any ASCII letter.
        (Some(single), None) if single <= 0xFFFF && (single >= 0x80 || unit < 0x80) => single as u16,
        _ => return unit,
    };
    // Letters of scripts that have had upper case for a short time only.
    let young = matches!(single, 0x13A0..=0x13F5 | 0x1C80..=0x1CBF | 0xA640..=0xA7FF);
    if young || LEFT_ALONE.iter().any(|&(first, last)| (first..=last).contains(&unit)) {
        unit
    } else {
        single
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn units(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    #[test]
    fn compares_as_people_expect() {
        let table = UpcaseTable::generate();
        assert!(table.equal(&units("Straße ÄÖ.txt"), &units("strAße äö.TXT")));
        assert!(table.equal(&units("ΑΒΓ жук"), &units("αβγ ЖУК")));
        assert!(!table.equal(&units("a"), &units("ab")));
        assert!(!table.equal(&units("ı"), &units("i")));
        assert_eq!(table.hash(&units("Readme")), table.hash(&units("rEADME")));
    }

    #[test]
    fn stored_and_parsed_it_is_the_same() {
        let table = UpcaseTable::generate();
        let stored = table.store();
        assert!(stored.len() < 8192, "{}", stored.len());
        let again = UpcaseTable::parse(&stored).unwrap();
        for unit in 0..=u16::MAX {
            assert_eq!(table.upper(unit), again.upper(unit));
        }
        assert!(UpcaseTable::parse(&stored[..20]).is_none());
        assert!(UpcaseTable::parse(&[0xFF, 0xFF]).is_none());
    }
}
