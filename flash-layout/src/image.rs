//! The header before a firmware image in its slot, and the image behind it, which is compressed.
//!
//! | offset | field |
//! |---|---|
//! | 0 | magic, [`MAGIC`] |
//! | 4 | format version, [`VERSION`] |
//! | 6 | header length in bytes, 80 |
//! | 8 | load address: where in memory the unpacked image's first byte goes |
//! | 12 | entry: the address to jump to |
//! | 16 | length of the image as it is stored |
//! | 20 | CRC-32 (IEEE) of the image as it is stored |
//! | 24 | sequence number: of two valid slots the higher one is newer |
//! | 28 | bytes of memory from the load address on that the image needs, its zeroed data and stacks included |
//! | 32 | length of the unpacked image |
//! | 36 | CRC-32 of the unpacked image |
//! | 40 | how it is stored: 1, as one raw DEFLATE stream (RFC 1951) |
//! | 44 | build name, UTF-8, padded with zeros to 32 bytes |
//! | 76 | CRC-32 of the 76 bytes before |

use miniz_oxide::inflate::decompress_slice_iter_to_slice;

use crate::area::Area;

/// Bytes of the header.
pub const HEADER_LENGTH: usize = 80;
/// The first four bytes of a slot that holds an image.
pub const MAGIC: u32 = u32::from_be_bytes(*b"NAS7");
/// The version of this format.
pub const VERSION: u16 = 2;
/// Bytes of a build name.
pub const NAME_LENGTH: usize = 32;

/// How the image is stored: raw DEFLATE.
const DEFLATE: u32 = 1;
const NAME: usize = 44;

/// What a slot's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageHeader {
    /// Where in memory the unpacked image's first byte goes (a physical address).
    pub load_address: u32,
    /// The address to jump to, within the image.
    pub entry: u32,
    /// Length of the image as it is stored, without the header.
    pub length: u32,
    /// CRC-32 (IEEE) of the image as it is stored.
    pub checksum: u32,
    /// Of two valid slots the one with the higher number is newer.
    pub sequence: u32,
    /// Bytes of memory from `load_address` on that the image needs: at least `unpacked_length`.
    pub memory_length: u32,
    /// Length of the unpacked image.
    pub unpacked_length: u32,
    /// CRC-32 (IEEE) of the unpacked image.
    pub unpacked_checksum: u32,
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
    /// It does not unpack to what the header says.
    Compression,
    /// There is not as much memory as it needs, or not where it wants it.
    Memory,
}

impl core::fmt::Display for ImageError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            Self::Absent => "empty",
            Self::HeaderChecksum => "header checksum wrong",
            Self::Version => "unknown header version",
            Self::Bounds => "lengths out of bounds",
            Self::ImageChecksum => "image checksum wrong",
            Self::Compression => "does not unpack",
            Self::Memory => "does not fit into memory",
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
        if word(bytes, 40) != DEFLATE {
            return Err(ImageError::Version);
        }
        let mut name = [0; NAME_LENGTH];
        if let Some(source) = bytes.get(NAME..NAME + NAME_LENGTH) {
            name.copy_from_slice(source);
        }
        let header = Self {
            load_address: word(bytes, 8),
            entry: word(bytes, 12),
            length: word(bytes, 16),
            checksum: word(bytes, 20),
            sequence: word(bytes, 24),
            memory_length: word(bytes, 28),
            unpacked_length: word(bytes, 32),
            unpacked_checksum: word(bytes, 36),
            name,
        };
        let fits = header.length <= slot.length - HEADER_LENGTH as u32
            && header.unpacked_length <= header.memory_length
            && header.load_address.checked_add(header.memory_length).is_some()
            && header
                .entry
                .checked_sub(header.load_address)
                .is_some_and(|offset| offset < header.unpacked_length)
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
            self.unpacked_length,
            self.unpacked_checksum,
            DEFLATE,
        ];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        for (place, byte) in bytes.iter_mut().skip(NAME).zip(self.name) {
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

/// Checks a whole slot: header and image as it is stored. `slot_bytes` is the slot's content, `slot` says where it lies.
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

/// Unpacks an image into `target`, which has the header's `unpacked_length`. What is there after an error is of no use.
pub fn unpack(header: &ImageHeader, stored: &[u8], target: &mut [u8]) -> Result<(), ImageError> {
    if target.len() != header.unpacked_length as usize {
        return Err(ImageError::Memory);
    }
    // No zlib header, and none of its checksums: ours covers the whole.
    let unpacked = decompress_slice_iter_to_slice(target, core::iter::once(stored), false, true);
    if unpacked == Ok(target.len()) && crate::bytes::crc32(target) == header.unpacked_checksum {
        Ok(())
    } else {
        Err(ImageError::Compression)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miniz_oxide::deflate::compress_to_vec;

    const SLOT: Area = Area { offset: 0, length: 256 };
    const UNPACKED: &[u8] = b"thirty-two bytes, bytes, bytes!!";

    fn header(stored: &[u8]) -> ImageHeader {
        let mut name = [0; NAME_LENGTH];
        name[..4].copy_from_slice(b"test");
        ImageHeader {
            load_address: 0x10_0000,
            entry: 0x10_0004,
            length: stored.len() as u32,
            checksum: crate::bytes::crc32(stored),
            sequence: 7,
            memory_length: 4096,
            unpacked_length: UNPACKED.len() as u32,
            unpacked_checksum: crate::bytes::crc32(UNPACKED),
            name,
        }
    }

    fn slot(stored: &[u8]) -> Vec<u8> {
        let mut slot = header(stored).emit().to_vec();
        slot.extend_from_slice(stored);
        slot.resize(256, 0xFF);
        slot
    }

    #[test]
    fn parses_what_it_emits() {
        let stored = compress_to_vec(UNPACKED, 10);
        let bytes = slot(&stored);
        let (parsed, image) = check(&bytes, SLOT).unwrap();
        assert_eq!(parsed, header(&stored));
        assert_eq!(image, stored);
        assert_eq!(parsed.name(), "test");
        assert_eq!(bytes[..8], [b'N', b'A', b'S', b'7', 0, 2, 0, 80]);
        let mut target = [0; UNPACKED.len()];
        assert_eq!(unpack(&parsed, image, &mut target), Ok(()));
        assert_eq!(target, UNPACKED);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let stored = compress_to_vec(UNPACKED, 10);
        let good = slot(&stored);
        for bit in 0..(HEADER_LENGTH + stored.len()) * 8 {
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
        let refused = |change: fn(&mut ImageHeader)| {
            let mut changed = header(b"twelve bytes");
            change(&mut changed);
            ImageHeader::parse(&changed.emit(), SLOT) == Err(ImageError::Bounds)
        };
        assert!(refused(|header| header.length = 177));
        assert!(!refused(|header| header.length = 176));
        assert!(refused(|header| header.length = u32::MAX));
        assert!(refused(|header| header.memory_length = 31));
        assert!(refused(|header| header.memory_length = u32::MAX));
        assert!(refused(|header| header.unpacked_length = 4097));
        assert!(refused(|header| header.entry = 0x10_0020));
        assert!(refused(|header| header.entry = 0));
        assert!(refused(|header| header.entry += 1));
    }

    #[test]
    fn another_way_of_storing_is_not_known() {
        let mut bytes = header(b"").emit();
        bytes[43] = 0;
        let checksum = crate::bytes::crc32(&bytes[..76]);
        bytes[76..].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(ImageHeader::parse(&bytes, SLOT), Err(ImageError::Version));
    }

    /// As if the stored image's own checksum were right: the decoder sees every byte of it.
    #[test]
    fn what_does_not_unpack_to_the_image_is_refused() {
        let image: Vec<u8> = (0..3000u32).map(|index| ((index * index) >> 7) as u8).collect();
        for level in [0, 1, 10] {
            let stored = compress_to_vec(&image, level);
            let good = ImageHeader {
                unpacked_length: image.len() as u32,
                unpacked_checksum: crate::bytes::crc32(&image),
                ..header(&stored)
            };
            let mut target = vec![0; image.len()];
            assert_eq!(unpack(&good, &stored, &mut target), Ok(()));
            assert!(target == image);
            for length in 0..stored.len() {
                assert_eq!(unpack(&good, &stored[..length], &mut target), Err(ImageError::Compression));
            }
            let mut ignored = 0;
            for bit in 0..stored.len() * 8 {
                let mut bad = stored.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                if unpack(&good, &bad, &mut target).is_ok() {
                    assert!(target == image, "level {level}, bit {bit}");
                    ignored += 1;
                }
            }
            // What fills the byte behind the head of a block that is stored as it is, and the last byte, says nothing.
            assert!(ignored < 16, "level {level}: {ignored}");
            // A stream that is longer or shorter than the header says, and one that never ends.
            for unpacked_length in [0, 1, image.len() as u32 - 1, image.len() as u32 + 1] {
                let lying = ImageHeader { unpacked_length, ..good };
                let mut target = vec![0; unpacked_length as usize];
                assert_eq!(unpack(&lying, &stored, &mut target), Err(ImageError::Compression));
            }
            assert_eq!(unpack(&good, &stored, &mut []), Err(ImageError::Memory));
        }
        for filler in 0..=255 {
            let mut target = vec![0; image.len()];
            let long = ImageHeader { unpacked_length: image.len() as u32, ..header(b"") };
            assert_eq!(unpack(&long, &[filler; 5000], &mut target), Err(ImageError::Compression));
        }
    }
}
