//! GCM's hash (NIST SP 800-38D, 6.3, 6.4) on 32 blocks at once, bit by bit.
//!
//! To multiply by a known H is a linear map. Written with coefficients of a polynomial going in and coordinates in the dual
//! basis coming out, its matrix is a Hankel matrix: entry (i, j) is h(i + j), where h(k) is the trace of x^k H over the
//! derivative of the modulus. Two things follow. A Hankel matrix of size 2 n times a vector takes three of size n, with half of
//! the additions that Karatsuba's multiplication has; and the product comes out reduced: for a modulus with five terms,
//! turning dual coordinates into coefficients is a reversal and ten additions. The sums of entries that the three smaller
//! matrices consist of are worked out once for a key ([`Factor`]).
//!
//! There is no multiplication instruction in it: the 750's takes fewer cycles for small numbers.

use super::words::{Eight, Slices, load, load_low, store_low, xor};

/// The entries of a Hankel matrix of size 8, ready for the three products of size 4 with three of size 2 each.
pub(super) type Leaf = [[u32; 9]; 3];

/// 128 is 8 by four halvings, with three products for each.
const LEAVES: usize = 81;

/// Factors for 32 lanes, ready to multiply by.
pub(super) struct Factor([Leaf; LEAVES]);

impl Drop for Factor {
    fn drop(&mut self) {
        super::wipe(self.0.as_flattened_mut().as_flattened_mut());
    }
}

impl Factor {
    /// Prepares to multiply by `factor`.
    pub(super) fn prepare(&mut self, factor: &Slices) {
        let factor = factor.as_flattened();
        let mut entries = [0; 255];
        for index in 0..121 {
            entries[index] = factor[127 - index];
        }
        for power in (0..7).rev() {
            let mut entry = factor[power] ^ entries[6 - power];
            if power <= 1 {
                entry ^= entries[1 - power];
            }
            if power == 0 {
                entry ^= entries[0];
            }
            entries[127 - power] = entry;
        }
        for index in 0..127 {
            // x^128 = x^7 + x^2 + x + 1.
            entries[index + 128] =
                entries[index + 7] ^ entries[index + 2] ^ entries[index + 1] ^ entries[index];
        }
        expand(&entries, self.0.as_flattened_mut().as_flattened_mut(), &mut [0; 127 + 63 + 31 + 15 + 7]);
        super::wipe(&mut entries);
    }

    /// `values` times this, in dual coordinates.
    pub(super) fn times(&self, values: &Slices, product: &mut Slices) {
        // Two halves of 16, 8 and 4.
        multiply(&self.0, values, product, &mut [[0; 8]; 28]);
    }
}

/// Writes the entries of the three halves of a Hankel matrix, theirs, and so on down to size 2. Of a matrix of size n,
/// `entries` are the 2 n - 1; `sums` is memory for that many and for what smaller ones need.
fn expand(entries: &[u32], out: &mut [u32], sums: &mut [u32]) {
    if let (Some(&[a, b, c, d, e, f, g]), Some(out)) = (entries.as_array(), out.as_mut_array()) {
        *out = [c, d, e, a ^ c, b ^ d, c ^ e, c ^ e, d ^ f, e ^ g];
        return;
    }
    let half = entries.len().div_ceil(4);
    let length = 2 * half - 1;
    let (middle, rest) = out.split_at_mut(out.len() / 3);
    let (first, last) = rest.split_at_mut(rest.len() / 2);
    let between = &entries[half..half + length];
    let (own, sums) = sums.split_at_mut(length);
    expand(between, middle, sums);
    for (part, out) in [(&entries[..length], first), (&entries[2 * half..], last)] {
        for ((sum, a), b) in own.iter_mut().zip(between).zip(part) {
            *sum = a ^ b;
        }
        expand(own, out, sums);
    }
}

/// A Hankel matrix, as its leaves, times `values`. `memory` is for a product and a sum of half the size, and what those need.
#[inline(always)]
fn multiply(leaves: &[Leaf], values: &[Eight], product: &mut [Eight], memory: &mut [Eight]) {
    match (leaves.as_array(), values.as_array(), product.as_mut_array()) {
        (Some(leaves), Some(values), Some(product)) => sixteen(leaves, values, product),
        _ => multiply_by_halves(leaves, values, product, memory),
    }
}

/// With matrices H0, H1, H2 of half the size, H0 a + H1 b = (H0 + H1) a + H1 (a + b) and
/// H1 a + H2 b = (H1 + H2) b + H1 (a + b).
fn multiply_by_halves(leaves: &[Leaf], values: &[Eight], product: &mut [Eight], memory: &mut [Eight]) {
    let half = values.len() / 2;
    let (between, rest) = leaves.split_at(leaves.len() / 3);
    let (first, last) = rest.split_at(rest.len() / 2);
    let ((a, b), (upper, lower)) = (values.split_at(half), product.split_at_mut(half));
    let (sums, memory) = memory.split_at_mut(half);
    let (middle, memory) = memory.split_at_mut(half);
    for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
        store_low(sum, xor(load_low(a), load(b)));
    }
    multiply(between, sums, middle, memory);
    multiply(first, a, upper, memory);
    multiply(last, b, lower, memory);
    for ((upper, lower), middle) in upper.iter_mut().zip(lower).zip(middle) {
        let middle = load(middle);
        store_low(upper, xor(load_low(upper), middle));
        store_low(lower, xor(load_low(lower), middle));
    }
}

#[cfg(target_arch = "powerpc")]
use super::assembly::sixteen;

#[cfg(not(target_arch = "powerpc"))]
fn sixteen([between, first, last]: &[Leaf; 3], [a, b]: &[Eight; 2], [upper, lower]: &mut [Eight; 2]) {
    let middle = eight(between, xor(*a, *b));
    *upper = xor(eight(first, *a), middle);
    *lower = xor(eight(last, *b), middle);
}

#[cfg(not(target_arch = "powerpc"))]
fn eight([between, first, last]: &Leaf, values: Eight) -> Eight {
    let [a, b, c, d, e, f, g, h] = values;
    let [i, j, k, l] = four(between, [a ^ e, b ^ f, c ^ g, d ^ h]);
    let [m, n, o, p] = four(first, [a, b, c, d]);
    let [q, r, s, t] = four(last, [e, f, g, h]);
    [i ^ m, j ^ n, k ^ o, l ^ p, i ^ q, j ^ r, k ^ s, l ^ t]
}

#[cfg(not(target_arch = "powerpc"))]
fn four(entries: &[u32; 9], [a, b, c, d]: [u32; 4]) -> [u32; 4] {
    let [h0, h1, h2, h3, h4, h5, h6, h7, h8] = *entries;
    let [e, f] = two([h0, h1, h2], [a ^ c, b ^ d]);
    let [g, h] = two([h3, h4, h5], [a, b]);
    let [i, j] = two([h6, h7, h8], [c, d]);
    [e ^ g, f ^ h, e ^ i, f ^ j]
}

#[cfg(not(target_arch = "powerpc"))]
fn two([h0, h1, h2]: [u32; 3], [a, b]: [u32; 2]) -> [u32; 2] {
    [h0 & a ^ h1 & b, h1 & a ^ h2 & b]
}

/// The coefficients that dual coordinates stand for, added to `more`.
pub(super) fn coefficients(dual: &Slices, more: &mut Slices) {
    for (part, reversed) in more.iter_mut().zip(dual.iter().rev()) {
        let mut reversed = load(reversed);
        reversed.reverse();
        store_low(part, xor(load_low(part), reversed));
    }
    // Of the modulus' terms x^7, x^2 and x.
    let [d0, d1, d2, d3, d4, d5, d6, _] = dual[0];
    let low = [d6 ^ d1 ^ d0, d5 ^ d0, d4, d3, d2, d1, d0, 0];
    more[0] = xor(more[0], low);
}

/// The squares of 32 polynomials.
pub(super) fn square(values: &Slices) -> Slices {
    let mut wide = [0; 256];
    for (index, value) in values.as_flattened().iter().enumerate() {
        wide[2 * index] = *value;
    }
    for index in (128..256).rev() {
        for term in [0, 1, 2, 7] {
            wide[index - 128 + term] ^= wide[index];
        }
    }
    core::array::from_fn(|part| core::array::from_fn(|bit| wide[8 * part + bit]))
}
