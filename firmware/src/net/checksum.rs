//! The Internet checksum (RFC 1071), alone and together with a copy: the two loops every byte of TCP goes through.

/// The one's complement sum of `bytes` as big-endian 16-bit words (an odd byte at the end counts as the upper half of a
/// word), added to `sum` and not yet folded. The board has a loop of its own.
#[cfg(target_arch = "powerpc")]
pub(super) fn add(sum: u64, bytes: &[u8]) -> u64 {
    ppc750_nas::memory_functions::checksum(fold_once(fold_once(sum)) as u32, bytes).into()
}

/// Copies `from` to the equally long `to` and returns what [`add`] would.
#[cfg(target_arch = "powerpc")]
pub(super) fn copy_and_add(sum: u64, to: &mut [u8], from: &[u8]) -> u64 {
    ppc750_nas::memory_functions::copy_with_checksum(fold_once(fold_once(sum)) as u32, to, from).into()
}

/// The one's complement sum of `bytes` as big-endian 16-bit words (an odd byte at the end counts as the upper half of a
/// word), added to `sum` and not yet folded.
#[cfg(not(target_arch = "powerpc"))]
pub(super) fn add(sum: u64, bytes: &[u8]) -> u64 {
    // 2^16 is 1 modulo 0xFFFF, so 32-bit words add up to the same remainder; carries gather in the upper half.
    let (words, rest) = bytes.as_chunks::<4>();
    let mut sum = words.iter().fold(sum, |sum, word| sum + u64::from(u32::from_be_bytes(*word)));
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    sum += u64::from(u32::from_be_bytes(last));
    fold_once(sum)
}

/// Copies `from` to the equally long `to` and returns what [`add`] would.
#[cfg(not(target_arch = "powerpc"))]
pub(super) fn copy_and_add(sum: u64, to: &mut [u8], from: &[u8]) -> u64 {
    let length = to.len().min(from.len());
    if let (Some(to), Some(from)) = (to.get_mut(..length), from.get(..length)) {
        to.copy_from_slice(from);
    }
    add(sum, from)
}

/// Keeps a sum from ever overflowing: 33 bits afterwards.
fn fold_once(sum: u64) -> u64 {
    (sum & 0xFFFF_FFFF) + (sum >> 32)
}

/// The folded complement: what goes into a checksum field, and 0 when a sum that includes the field is right.
pub(super) fn finish(sum: u64) -> u16 {
    let sum = fold_once(fold_once(sum));
    let sum = (sum & 0xFFFF) + (sum >> 16);
    let sum = (sum & 0xFFFF) + (sum >> 16);
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xFFFF) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn both_agree_with_the_definition() {
        let bytes: Vec<u8> = (0..1500u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for start in 0..5 {
            for length in (0..70).chain([1000, 1459, 1460]) {
                let bytes = &bytes[start..start + length];
                let mut copy = vec![0; length];
                assert_eq!(finish(add(0, bytes)), slow(bytes));
                assert_eq!(finish(copy_and_add(0, &mut copy, bytes)), slow(bytes));
                assert_eq!(copy, bytes);
            }
        }
        let ones = [0xFF; 65536];
        assert_eq!(finish(add(u64::from(u32::MAX), &ones)), 0);
    }
}
