//! The header before a firmware image in its slot.
//!
//! | offset | field |
//! |---|---|
//! | 0 | magic, [`MAGIC`] |
//! | 4 | format version, [`VERSION`] |
//! | 6 | header length in bytes, 64 |
//! | 8 | load address: where in memory the image's first byte goes |
//! | 12 | entry: the address to jump to |
//! | 16 | length of the image in bytes |
//! | 20 | CRC-32 (IEEE) of the image |
//! | 24 | sequence number: of two valid slots the higher one is newer |
//! | 28 | bytes of memory from the load address on that the image needs, its zeroed data and stacks included |
//! | 32 | build name, UTF-8, padded with zeros to 28 bytes |
//! | 60 | CRC-32 of the 60 bytes before |

use crate::area::Area;

/// Bytes of the header.
pub const HEADER_LENGTH: usize = 64;
/// The first four bytes of a slot that holds an image.
pub const MAGIC: u32 = u32::from_be_bytes(*b"NAS7");
/// The version of this format.
pub const VERSION: u16 = 1;
/// Bytes of a build name.
pub const NAME_LENGTH: usize = 28;

/// What a slot's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageHeader {
    /// Where in memory the image's first byte goes (a physical address).
    pub load_address: u32,
    /// The address to jump to, within the image.
    pub entry: u32,
    /// Length of the image in bytes, without the header.
    pub length: u32,
    /// CRC-32 (IEEE) of the image.
    pub checksum: u32,
    /// Of two valid slots the one with the higher number is newer.
    pub sequence: u32,
    /// Bytes of memory from `load_address` on that the image needs: at least `length`.
    pub memory_length: u32,
    /// A name for people, UTF-8, padded with zeros.
    pub name: [u8; NAME_LENGTH],
}

/// Why a slot cannot be booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// The first bytes are not [`MAGIC`]: nothing was ever written here.
    Absent,
    /// The header's own checksum is wrong.
    HeaderChecksum,
    /// A format version or header length that this code does not know.
    Version,
    /// The lengths or the entry contradict each other or the slot's size.
    Bounds,
    /// The image's checksum is wrong.
    ImageChecksum,
}

impl core::fmt::Display for ImageError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            Self::Absent => "empty",
            Self::HeaderChecksum => "header checksum wrong",
            Self::Version => "unknown header version",
            Self::Bounds => "lengths out of bounds",
            Self::ImageChecksum => "image checksum wrong",
        })
    }
}

fn word(bytes: &[u8; HEADER_LENGTH], offset: usize) -> u32 {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |four| u32::from_be_bytes(*four))
}

impl ImageHeader {
    /// Reads a header. Says nothing yet about the image behind it.
    pub fn parse(bytes: &[u8; HEADER_LENGTH], slot: Area) -> Result<Self, ImageError> {
        if word(bytes, 0) != MAGIC {
            return Err(ImageError::Absent);
        }
        let (signed, checksum) = bytes.split_at(HEADER_LENGTH - 4);
        if crate::bytes::crc32(signed).to_be_bytes() != checksum {
            return Err(ImageError::HeaderChecksum);
        }
        if word(bytes, 4) != u32::from(VERSION) << 16 | HEADER_LENGTH as u32 {
            return Err(ImageError::Version);
        }
        let mut name = [0; NAME_LENGTH];
        if let Some(source) = bytes.get(32..32 + NAME_LENGTH) {
            name.copy_from_slice(source);
        }
        let header = Self {
            load_address: word(bytes, 8),
            entry: word(bytes, 12),
            length: word(bytes, 16),
            checksum: word(bytes, 20),
            sequence: word(bytes, 24),
            memory_length: word(bytes, 28),
            name,
        };
        let fits = header.length <= slot.length - HEADER_LENGTH as u32
            && header.length <= header.memory_length
            && header.load_address.checked_add(header.memory_length).is_some()
            && header.entry.checked_sub(header.load_address).is_some_and(|offset| offset < header.length)
            && header.load_address.is_multiple_of(4)
            && header.entry.is_multiple_of(4);
        if fits { Ok(header) } else { Err(ImageError::Bounds) }
    }

    /// The header as it lies in the flash.
    pub fn emit(&self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        let words = [
            MAGIC,
            u32::from(VERSION) << 16 | HEADER_LENGTH as u32,
            self.load_address,
            self.entry,
            self.length,
            self.checksum,
            self.sequence,
            self.memory_length,
        ];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        for (place, byte) in bytes.iter_mut().skip(32).zip(self.name) {
            *place = byte;
        }
        let (signed, checksum) = bytes.split_at_mut(HEADER_LENGTH - 4);
        checksum.copy_from_slice(&crate::bytes::crc32(signed).to_be_bytes());
        bytes
    }

    /// The name without its padding; empty when it is not UTF-8.
    pub fn name(&self) -> &str {
        let length = self.name.iter().position(|&byte| byte == 0).unwrap_or(NAME_LENGTH);
        self.name.get(..length).and_then(|name| core::str::from_utf8(name).ok()).unwrap_or("")
    }
}

/// Checks a whole slot: header and image. `slot_bytes` is the slot's content, `slot` says where it lies.
pub fn check(slot_bytes: &[u8], slot: Area) -> Result<(ImageHeader, &[u8]), ImageError> {
    let header = slot_bytes.first_chunk().ok_or(ImageError::Bounds)?;
    let header = ImageHeader::parse(header, slot)?;
    let image = slot_bytes
        .get(HEADER_LENGTH..)
        .and_then(|rest| rest.get(..header.length as usize))
        .ok_or(ImageError::Bounds)?;
    if crate::bytes::crc32(image) != header.checksum {
        return Err(ImageError::ImageChecksum);
    }
    Ok((header, image))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Area = Area { offset: 0, length: 256 };

    fn header(image: &[u8]) -> ImageHeader {
        let mut name = [0; NAME_LENGTH];
        name[..4].copy_from_slice(b"test");
        ImageHeader {
            load_address: 0x10_0000,
            entry: 0x10_0004,
            length: image.len() as u32,
            checksum: crate::bytes::crc32(image),
            sequence: 7,
            memory_length: 4096,
            name,
        }
    }

    fn slot(image: &[u8]) -> Vec<u8> {
        let mut slot = header(image).emit().to_vec();
        slot.extend_from_slice(image);
        slot.resize(256, 0xFF);
        slot
    }

    #[test]
    fn parses_what_it_emits() {
        let bytes = slot(b"twelve bytes");
        let (parsed, image) = check(&bytes, SLOT).unwrap();
        assert_eq!(parsed, header(b"twelve bytes"));
        assert_eq!(image, b"twelve bytes");
        assert_eq!(parsed.name(), "test");
        assert_eq!(bytes[..8], [b'N', b'A', b'S', b'7', 0, 1, 0, 64]);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = slot(b"twelve bytes");
        for bit in 0..(HEADER_LENGTH + 12) * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&bad, SLOT).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn an_erased_slot_is_absent() {
        assert_eq!(check(&[0xFF; 256], SLOT), Err(ImageError::Absent));
        assert_eq!(check(&[], SLOT), Err(ImageError::Bounds));
    }

    #[test]
    fn contradicting_lengths_are_refused() {
        let image = b"twelve bytes";
        let refused = |change: fn(&mut ImageHeader)| {
            let mut changed = header(image);
            change(&mut changed);
            ImageHeader::parse(&changed.emit(), SLOT) == Err(ImageError::Bounds)
        };
        assert!(refused(|header| header.length = 193));
        assert!(refused(|header| header.length = u32::MAX));
        assert!(refused(|header| header.memory_length = 11));
        assert!(refused(|header| header.memory_length = u32::MAX));
        assert!(refused(|header| header.entry = 0x10_000C));
        assert!(refused(|header| header.entry = 0));
        assert!(refused(|header| header.entry += 1));
    }
}
