//! Little-endian fields of on-disk structures. Reading beyond the end gives 0: lengths are checked where they matter.

/// CRC-32 (IEEE) by a table of 1 KiB, 8 instructions a byte. With one of 16 KiB, which does not compress in the image, it would
/// be some 5; but the journal alone sums more than a few bytes, a KiB or two for a flush that costs 88,000.
static CRC_32: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// The CRC-32 of `bytes`.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    CRC_32.checksum(bytes)
}

/// The byte at `offset`.
pub(crate) fn get8(bytes: &[u8], offset: usize) -> u8 {
    bytes.get(offset).copied().unwrap_or(0)
}

/// The two bytes at `offset`.
pub(crate) fn get16(bytes: &[u8], offset: usize) -> u16 {
    match bytes.get(offset..offset + 2) {
        Some(&[low, high]) => u16::from_le_bytes([low, high]),
        _ => 0,
    }
}

/// The four bytes at `offset`.
pub(crate) fn get32(bytes: &[u8], offset: usize) -> u32 {
    match bytes.get(offset..offset + 4) {
        Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
        _ => 0,
    }
}

/// The eight bytes at `offset`.
pub(crate) fn get64(bytes: &[u8], offset: usize) -> u64 {
    u64::from(get32(bytes, offset)) | u64::from(get32(bytes, offset + 4)) << 32
}

/// Puts `field` at `offset`, if it fits.
pub(crate) fn put(bytes: &mut [u8], offset: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(offset..offset + field.len()) {
        place.copy_from_slice(field);
    }
}
